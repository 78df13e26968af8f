"""One request under way: what was asked, what is to be spoken, what has been spoken.

Owns the state that travels between the stages. A job is made by prepare, its segments are filled in
by the lanes, and whoever fills the last one passes it on to finish.
"""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter

from processor.engines.base import Samples, Speech, Utterance
from processor.errors import Code, RequestError
from processor.events import Source, SpeechRequest, Status
from processor.ledger import Tenure
from processor.manifest import Identity, Manifest
from processor.segments import TextSegment
from processor.window import Window

__all__ = ["Job", "Message", "Outcome", "Record", "Segment", "Ticket"]

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What was polled, as it was. ``timestamp_ms`` is None where the broker gave none; ``fault`` is
    why the client could not read it, with what could be read in the other fields."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None
    fault: str | None = None

    @property
    def source(self) -> Source:
        return Source(topic=self.topic, partition=self.partition, offset=self.offset)

    def header(self, name: str) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be produced. ``lane`` picks the partition: those of one lane keep their order."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    lane: int
    #: What to send instead if the broker finds this too large. Without it that ends the worker.
    smaller: "Message | None" = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one record came to: the messages to publish before its offset may move."""

    messages: tuple[Message, ...]
    status: Status | None
    manifest: Manifest | None = None  # the stored result, where there is one
    code: Code | None = None  # why it failed, where it did


class Ticket:
    """One record's right to be here: whose it is, and what it takes of the window.

    ``hold`` and ``release`` may be called from any thread.
    """

    def __init__(self, record: Record, tenure: Tenure, window: Window) -> None:
        #: The how-manieth try at the record this is, as far as is known.
        self.attempt = 1
        self.record = record
        self.tenure = tenure
        self._window = window
        self._characters = len(record.value or b"")  # bytes: never fewer than characters
        self._audio_bytes = 0
        self._released = False
        self._lock = threading.Lock()
        window.add(characters=self._characters)

    def hold(self, audio_bytes: int) -> None:
        """Count samples that are kept until the record's outcome."""
        with self._lock:
            if not self._released:
                self._audio_bytes += audio_bytes
                self._window.add(audio_bytes=audio_bytes)

    def release(self) -> None:
        """Give back all that was taken; once."""
        with self._lock:
            if not self._released:
                self._released = True
                self._window.add(characters=-self._characters, audio_bytes=-self._audio_bytes)


@dataclass(slots=True)
class Job:
    """A request with its plan.

    ``queued_at`` is when it was asked for; ``started`` and ``ended`` are when its first segment
    went to the device and its last came back, in seconds of the epoch. ``spoilt`` once a segment
    has failed: the rest need not be spoken.
    """

    ticket: Ticket
    request: SpeechRequest
    text: str
    identity: Identity
    plan: tuple[TextSegment, ...]
    queued_at: datetime
    replace_manifest: bool = False
    segments: tuple["Segment", ...] = ()
    started: float | None = None
    ended: float = 0.0
    compute_s: float = 0.0
    batch_size: int = 0
    spoilt: bool = False
    _results: dict[int, Speech | RequestError] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def record(self) -> Record:
        return self.ticket.record

    @property
    def unwanted(self) -> bool:
        """Nobody would publish the result."""
        return self.ticket.tenure.over

    @property
    def late(self) -> bool:
        """Its deadline has passed."""
        return self.request.deadline is not None and self.request.deadline < datetime.now(UTC)

    @property
    def samples(self) -> list[Samples]:
        """All segments' audio, in order. Raises the RequestError of the segment that failed."""
        found = []
        for _, result in sorted(self._results.items(), key=itemgetter(0)):
            if isinstance(result, RequestError):
                raise result
            found.append(result.samples)
        return found

    def let_go(self) -> None:
        """Its end is written down: forget the audio. Segments and job know each other, and what
        knows itself in a circle stays in memory until the interpreter looks for such circles."""
        with self._lock:
            self._results.clear()
            self.segments = ()

    def begin(self, now: float, batch_size: int) -> None:
        """A segment goes to the device."""
        with self._lock:
            self.started = now if self.started is None else self.started
            self.batch_size = max(self.batch_size, batch_size)

    def deliver(
        self, index: int, result: Speech | RequestError, *, compute_s: float, now: float
    ) -> bool:
        """Note one segment's result. True for exactly one call: the one that settles the job,
        because it is the last or because it failed."""
        with self._lock:
            self.compute_s += compute_s
            if self.spoilt:
                return False
            if isinstance(result, RequestError):
                self.spoilt = True
            else:
                self.ticket.hold(result.samples.nbytes)
            self._results[index] = result
            self.ended = now
            return self.spoilt or len(self._results) == len(self.segments)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment in the pool."""

    job: Job
    index: int
    utterance: Utterance
    seconds: float  # of audio, as predicted

    @property
    def dropped(self) -> bool:
        return self.job.unwanted or self.job.spoilt

    @property
    def late(self) -> bool:
        return self.job.late
