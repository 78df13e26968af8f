"""What happens to a record between poll and publication: prepare, speak, finish.

Owns the I/O threads, the pool of segments and the lanes, and one promise: each ticket that is
accepted gets its result, once, whatever happens on its way. The poll thread puts tickets in and
takes results out; it never waits for a stage.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

import structlog

from processor.batcher import Batcher, BatchLimits
from processor.codec import Codec
from processor.durations import Durations
from processor.engines.base import Engine
from processor.errors import Code, RequestError, SpeechmillError, Stage
from processor.finish import Finisher
from processor.flights import Flights
from processor.job import Job, Outcome, Segment, Ticket
from processor.lanes import Lanes
from processor.manifest import Manifest
from processor.metrics import Metrics
from processor.patience import Abandoned, Patience
from processor.pool import Pool
from processor.prepare import Preparer
from processor.settings import Settings
from processor.store import ObjectStore
from processor.window import Window

__all__ = ["Stages"]

_log = structlog.get_logger()
_URGENT_THREADS = 2


class Stages:
    """One for a worker."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: ObjectStore,
        codec: Codec,
        window: Window,
        metrics: Metrics,
    ) -> None:
        able = engine.capabilities
        self._in_preparation = 0
        self._counting = threading.Lock()
        self._patience = Patience()
        self._metrics = metrics
        self._results: queue.SimpleQueue[tuple[Ticket | None, Outcome | BaseException | None]] = (
            queue.SimpleQueue()
        )
        self._pool: Batcher[Segment] = Batcher(
            BatchLimits(
                max_batch=min(able.max_batch, settings.engine.max_batch or able.max_batch),
                max_wait_s=settings.engine.max_wait_ms / 1000,
                mixed=not able.pads,
            ),
            full=window.audio_full,
            coming=lambda: self._in_preparation > 0,
        )
        durations = Durations()
        self._preparer = Preparer(settings, codec, engine, store, self._patience, durations)
        self._finisher = Finisher(settings, codec, able, store, self._patience, metrics)
        self._lanes = Lanes(
            engine,
            self._pool,
            durations,
            metrics,
            self._hand_over,
            lambda error: self._results.put((None, error)),
        )
        self._io = Pool("io", settings.worker.io_threads)
        # Threads of their own, so that what is urgent does not queue behind what is not.
        self._urgent_io = Pool("urgent-io", _URGENT_THREADS)
        self._priority = settings.kafka.priority
        self._flights: Flights[Manifest] = Flights()

    @property
    def outage(self) -> str | None:
        """What is waited for, None if nothing is. From any thread."""
        return self._patience.outage

    @property
    def waiting(self) -> int:
        """Segments in the pool. From any thread."""
        return len(self._pool)

    @property
    def call_age_s(self) -> float:
        """Of the longest call to the engine under way; 0 if none is. From any thread."""
        return self._lanes.call_age_s

    def start(self) -> None:
        self._lanes.start()

    def accept(self, ticket: Ticket) -> None:
        """Begin; returns at once."""
        with self._counting:
            self._in_preparation += 1
        self._io_of(ticket).submit(lambda: self._prepare(ticket))

    def refuse(self, ticket: Ticket, error: RequestError, *, read: bool) -> None:
        """Answer without trying; returns at once. Without ``read`` not even the record is decoded,
        and the answer is a dead letter alone."""
        self._io_of(ticket).submit(lambda: self._refuse(ticket, error, read=read))

    def forget(self, tickets: Iterable[Ticket]) -> None:
        """Nobody wants these any more: who waits for what they work for must not wait."""
        self._flights.land(tickets, None)
        for tenure in {ticket.tenure for ticket in tickets}:
            self._pool.forget(tenure)

    def results(self, timeout_s: float) -> Iterator[tuple[Ticket, Outcome | None]]:
        """What has come back; waits up to ``timeout_s`` for the first. No outcome: nobody wants it.

        Raises what a stage or a lane could not turn into an outcome: the worker must stop.
        """
        try:
            while True:
                ticket, result = self._results.get(timeout_s > 0, timeout_s)
                timeout_s = 0.0
                if isinstance(result, BaseException):
                    raise result
                if ticket is not None:
                    yield ticket, result
        except queue.Empty:
            return

    def wake(self) -> None:
        """There is more room in the window."""
        self._pool.wake()

    def close(self) -> None:
        """Begin nothing more and wait for no service any longer."""
        self._patience.end()
        self._pool.close()
        self._io.close()
        self._urgent_io.close()

    def rest(self, timeout_s: float) -> bool:
        """Wait for the lanes to end, after ``close``. False if the engine is still at work."""
        return self._lanes.join(timeout_s)

    def _urgent(self, ticket: Ticket) -> bool:
        return ticket.record.topic == self._priority

    def _io_of(self, ticket: Ticket) -> Pool:
        return self._urgent_io if self._urgent(ticket) else self._io

    def _prepare(self, ticket: Ticket) -> None:
        fields: dict[str, object] = {}

        def stage() -> Outcome | None:
            nonlocal fields
            fields = self._decode(ticket)
            with self._metrics.stage("plan"):
                job = self._preparer.plan(ticket, fields)
            return self._begin(job)

        self._guarded(ticket, stage, lambda: fields, Stage.PREPARE)
        with self._counting:
            self._in_preparation -= 1
        if not self._in_preparation:
            self._pool.wake()

    def _begin(self, job: Job) -> Outcome | None:
        """Speak a job, unless its result is in the store, or is being worked for."""

        def told(manifest: Manifest | None) -> None:
            self._io_of(job.ticket).submit(lambda: self._go_on(job, manifest))

        result = (job.request.tenant, job.identity.digest)
        if not self._flights.first(result, job.ticket, told):
            return None
        with self._metrics.stage("look_up"):
            manifest = self._preparer.stored(job)
        if manifest is not None:
            return self._finisher.answer(job, manifest)
        ticket = job.ticket
        self._pool.put(job.segments, ticket.tenure, urgent=self._urgent(ticket))
        return None

    def _go_on(self, job: Job, manifest: Manifest | None) -> None:
        """The one that this job waited for has come to an end."""

        def stage() -> Outcome | None:
            if manifest is None:  # it failed, or its partition was lost: that need not be our fate
                return self._begin(job)
            return self._finisher.answer(job, manifest)

        self._guarded(job.ticket, stage, lambda: _known(job), Stage.PREPARE)

    def _refuse(self, ticket: Ticket, error: RequestError, *, read: bool) -> None:
        fields: dict[str, object] = {}

        def stage() -> Outcome | None:
            nonlocal fields
            if read:
                fields = self._decode(ticket)
            raise error

        self._guarded(ticket, stage, lambda: fields, error.stage)

    def _decode(self, ticket: Ticket) -> dict[str, object]:
        with self._metrics.stage("decode"):
            return self._patience.through(
                lambda: self._preparer.decode(ticket.record), unwanted=lambda: ticket.tenure.over
            )

    def _hand_over(self, job: Job) -> None:
        """A job is spoken; called from a lane."""
        self._io_of(job.ticket).submit(lambda: self._finish(job))

    def _finish(self, job: Job) -> None:
        self._guarded(
            job.ticket, lambda: self._finisher.finish(job), lambda: _known(job), Stage.ENCODE
        )
        job.let_go()

    def _guarded(
        self,
        ticket: Ticket,
        stage: Callable[[], Outcome | None],
        fields: Callable[[], dict[str, object]],
        name: Stage,
    ) -> None:
        """Run a stage: whatever happens in it, the ticket gets its outcome, once."""
        record = ticket.record
        log = _log.bind(
            topic=record.topic, partition=record.partition, offset=record.offset, stage=name.value
        )
        result: Outcome | Exception | None
        try:
            try:
                result = stage()
                if result is None:
                    return
            except RequestError as error:
                log.info("refused", code=error.code.value, field=error.field, reason=error.message)
                result = self._finisher.refuse(ticket, fields(), error)
            except (Abandoned, SpeechmillError):
                raise
            except Exception as error:  # a bug: this record fails, and with it nobody else
                log.exception("internal error")
                result = self._finisher.refuse(ticket, fields(), _internal(error, name))
        except Abandoned:
            log.debug("dropped: the partition is no longer ours")
            result = None
        except Exception as error:  # noqa: BLE001 - no outcome: the poll thread raises it
            result = error
        manifest = result.manifest if isinstance(result, Outcome) else None
        self._flights.land([ticket], manifest)
        self._results.put((ticket, result))


def _known(job: Job) -> dict[str, object]:
    """What an answer repeats of its request."""
    names = ("request_id", "tenant", "job_id", "document_id", "index", "metadata")
    return {name: getattr(job.request, name) for name in names}


def _internal(error: Exception, stage: Stage) -> RequestError:
    return RequestError(
        Code.INTERNAL,
        f"an error of Speechmill's own ({type(error).__name__}); please report it",
        stage=stage,
        retryable=True,
    )
