"""The completions of a run, as a reader of committed records sees them, and when it does.

Owns a thread that reads the topic. An answer's moment is taken when the client library hands it
over, before it is decoded.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Message

from processor import registry
from processor.codec import Codec
from processor.errors import RequestError, SpeechmillError
from processor.events import SpeechCompleted
from processor.kafka import headers_of
from processor.settings import Settings
from producers.reader import TopicReader

__all__ = ["Answer", "Answers", "request_id"]

#: How long the broker may hold back an empty fetch, in milliseconds. Apache Kafka answers as soon
#: as there is something; the embedded broker holds up all partitions for as long.
_FETCH_WAIT_MS = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of a completion. ``at``: when it was seen, on the monotonic clock."""

    number: int
    at: float
    status: str
    code: str | None
    cache_hit: bool
    characters: int
    audio_s: float
    compute_s: float
    queued_s: float
    synthesis_s: float
    upload_s: float


def request_id(run: str, number: int) -> str:
    """Of the request with this number, in the run of this name."""
    return f"{run}-{number:08d}"


class Answers:
    """Reads from construction on; all that is published later is seen.

    Other runs' completions are passed over. A second completion of one request is counted in
    ``repeated`` and otherwise ignored.
    """

    def __init__(self, settings: Settings, run: str) -> None:
        self._prefix = f"{run}-"
        self._codec = Codec(registry.connect(settings.registry))
        self._reader = TopicReader(settings.kafka, "completions", fetch_wait_ms=_FETCH_WAIT_MS)
        self._reader.start("end")
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._numbers: set[int] = set()
        self._found: list[Answer] = []
        self.repeated = 0
        self.error: SpeechmillError | None = None
        self._thread = threading.Thread(target=self._run, name="completions", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """Requests answered so far."""
        return len(self._found)

    @property
    def all(self) -> list[Answer]:
        """In the order in which they were seen."""
        return list(self._found)

    def since(self, position: int) -> list[Answer]:
        """Those after the first ``position``."""
        return self._found[position:]

    def wait(self, until: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for ``until()``, which is asked after each arrival; False if time is up."""
        with self._changed:
            return self._changed.wait_for(until, timeout_s)

    def wake(self) -> None:
        """Ask what ``until`` says once more."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                messages = self._reader.read(0.2)
            except SpeechmillError as error:  # the run's own thread raises it
                self.error = error
                self.wake()
                return
            if messages:
                self._enter(messages, time.monotonic())

    def _enter(self, messages: list[Message], at: float) -> None:
        found = [answer for message in messages if (answer := self._answer(message, at))]
        if found:
            with self._changed:
                self._found += found
                self._changed.notify_all()

    def _answer(self, message: Message, at: float) -> Answer | None:
        headers = {name: value for name, value in headers_of(message) if value is not None}
        value = message.value()
        try:
            event = self._codec.decode(
                SpeechCompleted, value.encode() if isinstance(value, str) else value, headers
            )
        except RequestError:  # no completion; there is nobody whose it could be
            return None
        digits = event.request_id.removeprefix(self._prefix)
        if digits == event.request_id or not digits.isdecimal():
            return None
        number = int(digits)
        if number in self._numbers:
            self.repeated += 1
            return None
        self._numbers.add(number)
        return _kept(event, number, at)


def _kept(event: SpeechCompleted, number: int, at: float) -> Answer:
    return Answer(
        number=number,
        at=at,
        status=event.status.value,
        code=event.error.code if event.error else None,
        cache_hit=event.cache_hit,
        characters=event.usage.characters,
        audio_s=event.usage.audio_ms / 1000,
        compute_s=event.usage.compute_ms / 1000,
        queued_s=event.timings.queued_ms / 1000,
        synthesis_s=event.timings.synthesis_ms / 1000,
        upload_s=event.timings.upload_ms / 1000,
    )
