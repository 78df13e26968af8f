"""What a worker counts and times: every metric, its name and what it means, in one place.

Any thread may write. A worker has a registry of its own, so that several can live in one process.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

__all__ = ["Metrics"]

#: Requests whose average length counts: what is behind resembles what came last.
_MEMORY = 1000
_OURS = "speechmill"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128, 256)


class Metrics:
    """One for a worker. The names are a promise: dashboards are built on them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds_a_request = 0.0
        self._answers = 0
        ProcessCollector(registry=self.registry)

        self.requests = self._counter(
            "requests", "Requests answered and committed, by status.", ["status"]
        )
        self.failures = self._counter("failures", "Failed requests, by error code.", ["code"])
        self.cache_hits = self._counter(
            "cache_hits", "Requests answered without synthesis of their own."
        )
        self.characters = self._counter("characters", "Characters of text spoken or found.")

        self.stage_seconds = self._histogram(
            "stage_seconds",
            "Wall time of one call of a stage.",
            ["stage"],
            buckets=_SECONDS,
        )
        self.stage_cpu = self._counter(
            "stage_cpu_seconds", "Processor time of a stage's own thread.", ["stage"]
        )

        self.batch_size = self._histogram(
            "batch_size", "Segments in one call to the engine.", buckets=_SIZES
        )
        self.batch_seconds = self._histogram(
            "batch_seconds", "Wall time of one call to the engine.", buckets=_SECONDS
        )
        self.busy_seconds = self._counter(
            "engine_busy_seconds", "Wall time of all calls to the engine; / lanes = share."
        )
        self.under_way_seconds = self._gauge(
            "engine_under_way_seconds",
            "Wall time so far of the calls that are under way: added to the above, the share of a "
            "short span is exact.",
        )
        self.audio_seconds = self._counter("audio_seconds", "Audio that the engine made.")
        self.padded_seconds = self._counter(
            "padded_audio_seconds", "The same with each segment as long as its batch's longest.",
        )  # fmt: skip
        self.batches_split = self._counter("batches_split", "Calls that failed and were split.")
        self.lanes = self._gauge("engine_lanes", "Calls that the engine takes at once.")

        self.publications = self._counter(
            "publications", "Flushes by outcome: done, superseded.", ["outcome"]
        )
        self.rebalances = self._counter("rebalances", "Partitions assigned and revoked.", ["what"])
        self.pauses = self._counter(
            "pauses", "Partitions paused, as they had their share of the window or it was full."
        )
        self.window = self._gauge(
            "window", "Under way: requests, characters, audio_bytes.", ["what"]
        )
        self.lag_messages = self._gauge(
            "lag_messages", "Requests of our partitions that are not answered yet."
        )
        self.lag_audio_seconds = self._gauge(
            "lag_audio_seconds", "The same in seconds of audio: what to scale by."
        )

    def behind(self, messages: int) -> None:
        """So many requests are not answered yet; each as long as those before it, on average."""
        self.lag_messages.set(messages)
        self.lag_audio_seconds.set(messages * self._seconds_a_request)

    def answered(self, audio_seconds: float) -> None:
        """A request came to so much audio: what is behind is measured by it. One thread only."""
        known, seen = self._seconds_a_request, self._answers
        self._answers = min(seen + 1, _MEMORY)
        self._seconds_a_request = known + (audio_seconds - known) / self._answers

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done within, on the wall clock and on this thread's own."""
        began, spent = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            self.stage_seconds.labels(name).observe(time.monotonic() - began)
            self.stage_cpu.labels(name).inc(time.thread_time() - spent)

    def _counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, meaning, labels, namespace=_OURS, registry=self.registry)

    def _gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, meaning, labels, namespace=_OURS, registry=self.registry)

    def _histogram(
        self, name: str, meaning: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> Histogram:
        return Histogram(
            name, meaning, labels, namespace=_OURS, registry=self.registry, buckets=buckets
        )

    def exposition(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self.registry)
