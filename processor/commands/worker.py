"""``speechmill worker``: one member of the consumer group, until it is told to stop."""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from typing import TypeVar

import structlog
import tenacity
import typer

from processor import engines, registry
from processor.calibration import calibrated, matters
from processor.codec import Codec
from processor.commands.console import settings_of
from processor.delivery import connect
from processor.engines.base import Engine
from processor.errors import SettingsError, StoreError, Unavailable
from processor.events import SpeechCompleted
from processor.health import Health, serve
from processor.kafka import topic_names, topic_partitions
from processor.lag import LagWatch
from processor.settings import Settings
from processor.slot import Slot
from processor.source import KafkaSource
from processor.store import MinioStore
from processor.telemetry import configure_logs
from processor.threads import share_cores, share_heap, share_interpreter
from processor.worker import Worker

_log = structlog.get_logger()
R = TypeVar("R")

#: What closing may take after the drain's deadline, in seconds, before the process is ended.
_GRACE_S = 8.0


def worker(context: typer.Context) -> None:
    """Speak what is asked for on the request topic, until SIGTERM or Ctrl-C."""
    settings = settings_of(context)
    configure_logs(settings.log)
    share_heap()
    structlog.contextvars.bind_contextvars(worker=settings.worker.name)
    signals = _Signals()
    # Before all else: nothing that follows may be done twice under one name.
    slot = Slot(
        settings.worker.name,
        f"{settings.kafka.bootstrap} {settings.kafka.group}",
        settings.worker.slot_dir,
    )
    topics = _wait_for(lambda: _topics(settings), settings.worker.startup_s)
    store = MinioStore(settings.store)
    _wait_for(store.check, settings.worker.startup_s)
    codec = Codec(registry.connect(settings.registry))
    _wait_for(
        lambda: codec.ready(SpeechCompleted, settings.kafka.completions),
        settings.worker.startup_s,
    )
    publisher = _wait_for(lambda: connect(settings, topics), settings.worker.startup_s)
    engine = _warm(settings)
    settings = _calibrated(settings, engine)
    mill = Worker(
        settings,
        engine,
        store,
        codec,
        publisher,
        lambda listener: KafkaSource(settings.kafka, settings.worker.name, listener),
    )
    signals.on_first(mill.stop)
    if settings.health.port is not None:
        health = Health(mill.pulse, settings.health.engine_stuck_s)
        LagWatch(
            settings.kafka,
            lambda: mill.partitions,
            mill.metrics.behind,
            settings.health.lag_every_s,
        )
        serve(health, settings.health.address, settings.health.port, mill.metrics.exposition)
    if _run(mill, signals, settings.worker.drain_s):
        engine.close()
    slot.release()


def _run(mill: Worker, signals: "_Signals", drain_s: float) -> bool:
    """Run the worker on a thread of its own, so that this one is free for signals: while a thread
    is inside a client library's call, Python runs no handler on it. True if the engine rests."""
    result: Future[bool] = Future()

    def poll_thread() -> None:
        try:
            result.set_result(mill.run())
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            result.set_exception(error)

    threading.Thread(target=poll_thread, name="poll", daemon=True).start()
    while True:
        try:
            # Short enough that a stop's deadline is noticed.
            return result.result(timeout=1.0)
        except TimeoutError:
            if result.done():  # it was the worker's own
                raise
            if signals.since is not None and time.monotonic() - signals.since > drain_s + _GRACE_S:
                _log.error("the stop hangs; ending the process")
                os._exit(1)


class _Signals:
    """SIGTERM and SIGINT: the first asks, the second does not wait for an answer."""

    def __init__(self) -> None:
        #: When the first came, on the monotonic clock.
        self.since: float | None = None
        self._stop: Callable[[], None] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def on_first(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        if self.since is not None:
            stop()

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.since is not None:
            os._exit(128 + number)
        self.since = time.monotonic()
        if self._stop is None:  # not at work yet: nothing to finish
            raise SystemExit(128 + number)
        self._stop()


class _NotYet(SettingsError):
    """Topics are missing; whoever makes them may only be slower than we are."""


def _topics(settings: Settings) -> dict[str, int]:
    found = topic_partitions(settings.kafka, timeout_s=min(5.0, settings.worker.startup_s))
    missing = [name for name in topic_names(settings.kafka) if name not in found]
    if missing:
        raise _NotYet(
            f"no topic {', '.join(missing)} at {settings.kafka.bootstrap}; "
            "make them: speechmill topics create"
        )
    return found


def _warm(settings: Settings) -> Engine:
    began = time.monotonic()
    engine = engines.create(settings)
    share_cores(engine.capabilities.lanes)
    share_interpreter()
    engine.warm_up()
    able = engine.capabilities
    _log.info(
        "engine warm",
        engine=able.engine,
        revision=able.revision,
        lanes=able.lanes,
        voices=[voice.name for voice in able.voices],
        seconds=round(time.monotonic() - began, 2),
    )
    return engine


def _calibrated(settings: Settings, engine: Engine) -> Settings:
    """The settings with the batch size that is best here."""
    given, able = settings.engine, engine.capabilities
    if given.max_batch:
        return settings
    batch = calibrated(engine, able.max_batch, given.calibrate_s, settings=matters(settings))
    _log.info("batch size", segments=batch, limit=able.max_batch)
    chosen = given.model_copy(update={"max_batch": batch})
    return settings.model_copy(update={"engine": chosen})


def _wait_for(call: Callable[[], R], seconds: float) -> R:
    """``call()``, again while something is missing, for ``seconds``; then its error is the end."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((Unavailable, StoreError, _NotYet)),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=2.0),
        stop=tenacity.stop_after_delay(seconds),
        before_sleep=_say_why,
        reraise=True,
    )(call)


def _say_why(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.warning("waiting", attempt=state.attempt_number, reason=str(error))
