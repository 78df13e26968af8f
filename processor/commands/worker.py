"""``speechmill worker``: one member of the consumer group, until it is told to stop."""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

import structlog
import tenacity
import typer

from processor import engines, registry
from processor.codec import Codec
from processor.commands.console import settings_of
from processor.engines.base import Engine
from processor.errors import SettingsError, Unavailable
from processor.events import SpeechCompleted
from processor.kafka import topic_names, topic_partitions
from processor.publisher import AtLeastOnce
from processor.settings import Settings
from processor.source import KafkaSource
from processor.store import MinioStore
from processor.telemetry import configure_logs
from processor.worker import Worker

_log = structlog.get_logger()
R = TypeVar("R")


def worker(context: typer.Context) -> None:
    """Speak what is asked for on the request topic, until SIGTERM or Ctrl-C."""
    settings = settings_of(context)
    configure_logs(settings.log)
    structlog.contextvars.bind_contextvars(worker=settings.worker.name)
    signals = _Signals()
    topics = _wait_for(lambda: _topics(settings), settings.worker.startup_s)
    store = MinioStore(settings.store)
    _wait_for(store.check, settings.worker.startup_s)
    codec = Codec(registry.connect(settings.registry))
    _wait_for(
        lambda: codec.ready(SpeechCompleted, settings.kafka.completions),
        settings.worker.startup_s,
    )
    engine = _warm(settings)
    try:
        mill = Worker(
            settings,
            engine,
            store,
            codec,
            AtLeastOnce(settings.kafka, settings.worker.name, topics),
            lambda listener: KafkaSource(settings.kafka, settings.worker.name, listener),
        )
        signals.on_first(mill.stop)
        mill.run()
    finally:
        engine.close()


class _Signals:
    """SIGTERM and SIGINT: the first asks, the second does not wait for an answer."""

    def __init__(self) -> None:
        self.asked = False
        self._stop: Callable[[], None] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def on_first(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        if self.asked:
            stop()

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.asked:
            os._exit(128 + number)
        self.asked = True
        if self._stop is None:  # not at work yet: nothing to finish
            raise SystemExit(128 + number)
        self._stop()


def _topics(settings: Settings) -> dict[str, int]:
    found = topic_partitions(settings.kafka, timeout_s=min(5.0, settings.worker.startup_s))
    missing = [name for name in topic_names(settings.kafka) if name not in found]
    if missing:
        raise SettingsError(
            f"no topic {', '.join(missing)} at {settings.kafka.bootstrap}; "
            "make them: speechmill topics create"
        )
    return found


def _warm(settings: Settings) -> Engine:
    began = time.monotonic()
    engine = engines.create(settings.engine)
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


def _wait_for(call: Callable[[], R], seconds: float) -> R:
    """``call()``, again while the service is away, for ``seconds``; then its error is the end."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unavailable),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=2.0),
        stop=tenacity.stop_after_delay(seconds),
        before_sleep=lambda state: _log.warning("waiting", attempt=state.attempt_number),
        reraise=True,
    )(call)
