"""What a run found: every figure, typed, to JSON and back.

Seconds are wall time unless a name says ``cpu``; audio is counted in seconds of it. None: it is not
known, because no worker's metrics were read, or the system does not tell.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from processor.bench.machine import Machine

__all__ = ["Cpu", "Device", "Moment", "Result", "Spread", "WorkerFigures"]


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are distributed; percentiles are interpolated linearly."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, values: "list[float] | np.ndarray[Any, Any]") -> "Spread | None":
        """None of nothing."""
        if len(values) == 0:
            return None
        found = np.asarray(values, dtype=float)
        p50, p95, p99 = (float(value) for value in np.percentile(found, (50, 95, 99)))
        return cls(len(found), float(found.mean()), p50, p95, p99, float(found.max()))


@dataclass(frozen=True, slots=True)
class Device:
    """The engines of all workers, within the window."""

    lanes: int
    """Calls that all of them take at once."""
    busy_share: float
    """Seconds within calls / lanes / seconds of wall time."""
    audio_per_s: float
    """Seconds of audio that were made per second: what is answered, less the edges' chance."""
    calls: int
    call_s: float
    """Mean of one call."""
    batch_mean: float
    """Segments of one call."""
    batch_sizes: list[tuple[int, int]]
    """(Largest size of the bin, calls with a size in it); bins without calls are left out."""
    padding_share: float
    """Of the audio that the device went through, what was there only to make a batch even."""
    splits: int
    """Calls that failed and were made again in parts."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor time for each request that was answered, in milliseconds."""

    stages_ms: dict[str, float]
    other_ms: float
    """Of the worker's processes outside the stages: the Kafka client's threads, the interpreter,
    and what an engine's own threads use."""
    total_ms: float
    cores: dict[str, float]
    """Processors that each process used on average: workers, this one, and services if named."""


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """One worker within the window."""

    name: str
    requests: int
    busy_share: float
    audio_s: float
    memory_mb: float | None
    """Largest resident memory that was seen, in 10^6 bytes."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of the run; ``at`` is its end, in seconds from the beginning of the window."""

    at: float
    requests_per_s: float
    audio_per_s: float
    lag_requests: int
    """Due and not answered yet, as the client sees it."""
    lag_audio_s: float
    """The same in seconds of audio."""
    busy_share: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    run: str
    began: datetime
    parameters: dict[str, Any]
    """The plan, and the settings that were in force; secrets are blotted out."""
    machine: Machine

    window_s: float
    requests: int
    """That count: answered within the window or, with a rate, due within it."""
    statuses: dict[str, int]
    codes: dict[str, int]
    """Of those that failed, by error code."""
    repeated: int
    """Requests that were answered once more; 0 with exactly-once delivery."""
    cache_hits: int
    uncounted: int
    """Answered before the window began."""

    requests_per_s: float
    characters: int
    audio_s: float
    audio_per_s: float
    """Seconds of audio per second: how many listeners can be kept supplied."""
    rtf: float | None
    """Real-time factor: seconds of compute per second of audio, on one lane."""

    latency_s: Spread | None
    """From when a request was due until its completion was seen by a reader of committed records.
    Without a rate it is mostly the queue that the run keeps up itself."""
    latency_curve: list[tuple[float, float]]
    """(Percentile, seconds)."""
    urgent_latency_s: Spread | None
    """Of the requests on the priority topic."""
    sender_late_s: Spread | None
    """How late requests were sent; with a rate only. It is part of the latency."""
    queued_s: Spread | None
    """The worker's own word: from ``created_at`` until the engine took up the first segment."""
    synthesis_s: Spread | None
    """Likewise: from then until its last segment was spoken."""
    upload_s: Spread | None
    """Likewise: for putting the audio into the store."""

    device: Device | None
    cpu: Cpu | None
    workers: list[WorkerFigures]
    series: list[Moment]

    def to_json(self) -> bytes:
        """One JSON object, UTF-8, indented."""
        return _ADAPTER.dump_json(self, indent=2)

    @staticmethod
    def from_json(data: bytes) -> "Result":
        """Raises ValueError if it is none."""
        return _ADAPTER.validate_json(data)


_ADAPTER: TypeAdapter[Result] = TypeAdapter(Result)
