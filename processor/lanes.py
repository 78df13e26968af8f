"""The device's threads: batches out of the pool, through the engine, results to their jobs.

Owns what is done when a call fails: the batch is split and its parts are tried again, so that one
segment never takes its neighbours with it. A lane waits for nothing but the pool and the engine.
"""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import structlog

from processor.batcher import Batcher
from processor.durations import Durations
from processor.engines.base import Engine, Speech
from processor.errors import Code, RequestError, Stage
from processor.job import Job, Segment
from processor.metrics import Metrics
from processor.prepare import refuse_expired

__all__ = ["Lanes"]

_log = structlog.get_logger()


class Lanes:
    """One thread for each call that the engine takes at once."""

    def __init__(
        self,
        engine: Engine,
        pool: Batcher[Segment],
        durations: Durations,
        metrics: Metrics,
        settled: Callable[[Job], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        """Both are called from a lane, and must return at once: ``settled`` once for each job,
        ``broken`` if a lane ends by what no engine should raise."""
        self._engine = engine
        self._pool = pool
        self._durations = durations
        self._metrics = metrics
        metrics.lanes.set(engine.capabilities.lanes)
        metrics.under_way_seconds.set_function(self._under_way_s)
        self._settled = settled
        self._broken = broken
        self._calls: dict[int, float] = {}  # when each lane's call began, by thread
        self._threads = [
            threading.Thread(target=self._run, name=f"lane-{number}", daemon=True)
            for number in range(engine.capabilities.lanes)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def call_age_s(self) -> float:
        """How long the longest call under way has taken; 0 if none is. From any thread."""
        begun = min(self._calls.copy().values(), default=None)
        return 0.0 if begun is None else time.monotonic() - begun

    def _under_way_s(self) -> float:
        now = time.monotonic()
        return sum(now - began for began in self._calls.copy().values())

    def join(self, timeout_s: float) -> bool:
        """Wait for all lanes to end, after the pool was closed. False if one is still at work."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        try:
            while batch := self._pool.take():
                timely = [segment for segment in batch if not self._too_late(segment)]
                if timely:
                    self._speak(timely)
        except BaseException as error:  # noqa: BLE001 - a lane that is gone must not go unnoticed
            self._broken(error)

    def _too_late(self, segment: Segment) -> bool:
        try:
            refuse_expired(segment.job.request)
        except RequestError as error:
            self._deliver(segment, error, compute_s=0.0)
            return True
        return False

    def _speak(self, batch: Sequence[Segment]) -> None:
        for segment in batch:
            segment.job.begin(time.time(), len(batch))
        began = self._calls[threading.get_ident()] = time.monotonic()
        try:
            with self._metrics.stage("engine"):
                results = list(self._engine.synthesize([segment.utterance for segment in batch]))
            _check(results, len(batch))
        except Exception as error:  # noqa: BLE001 - a model may raise anything; none may end the lane
            self._note(time.monotonic() - began, len(batch), [])
            self._split(batch, error)
            return
        elapsed = time.monotonic() - began
        self._note(elapsed, len(batch), [_length(result) for result in results])
        spoken = sum(_length(result) for result in results) or 1
        for segment, result in zip(batch, results, strict=True):
            share = _length(result) / spoken
            self._learn(segment, _length(result))
            self._deliver(segment, result, compute_s=elapsed * share)

    def _note(self, elapsed: float, size: int, lengths: Sequence[int]) -> None:
        """A call is over; ``lengths`` are its results', in samples."""
        self._calls.pop(threading.get_ident(), None)
        metrics, rate = self._metrics, self._engine.capabilities.sample_rate
        metrics.busy_seconds.inc(elapsed)
        metrics.batch_seconds.observe(elapsed)
        metrics.batch_size.observe(size)
        metrics.audio_seconds.inc(sum(lengths) / rate)
        metrics.padded_seconds.inc(max(lengths, default=0) * len(lengths) / rate)

    def _learn(self, segment: Segment, samples: int) -> None:
        said = segment.utterance
        seconds = samples / self._engine.capabilities.sample_rate
        self._durations.learn(said.text, said.voice, said.speed, seconds)

    def _split(self, batch: Sequence[Segment], error: Exception) -> None:
        if len(batch) > 1:
            self._metrics.batches_split.inc()
            if isinstance(error, MemoryError):
                self._pool.out_of_memory(len(batch) * max(segment.seconds for segment in batch))
            _log.warning("batch failed, splitting it", size=len(batch), reason=repr(error))
            half = len(batch) // 2
            self._speak(batch[:half])
            self._speak(batch[half:])
            return
        (segment,) = batch
        _log.error(
            "segment failed",
            request_id=segment.job.request.request_id,
            segment=segment.index,
            exc_info=error,
        )
        refusal = RequestError(
            Code.ENGINE_FAILED,
            f"the engine failed on segment {segment.index} ({type(error).__name__}); "
            "try again, and report it if it fails again",
            stage=Stage.SYNTHESIS,
            retryable=True,
        )
        self._deliver(segment, refusal, compute_s=0.0)

    def _deliver(
        self, segment: Segment, result: Speech | RequestError, *, compute_s: float
    ) -> None:
        if segment.job.deliver(segment.index, result, compute_s=compute_s, now=time.time()):
            self._settled(segment.job)


def _check(results: Sequence[object], count: int) -> None:
    """Hold the engine to its contract, before anything is built on what it gave."""
    if len(results) != count:
        raise ValueError(f"{len(results)} results for {count} utterances")
    for result in results:
        if isinstance(result, RequestError):
            continue
        samples = result.samples if isinstance(result, Speech) else None
        if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype != np.float32:
            raise TypeError("a result is neither speech (float32, one dimension) nor a refusal")


def _length(result: Speech | RequestError) -> int:
    return len(result.samples) if isinstance(result, Speech) else 0
