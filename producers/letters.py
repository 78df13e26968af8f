"""Dead letters: read and deleted.

Owns what is taken from a letter's headers (``processor.deadletter`` writes them). Knows nothing of
the command line. What a letter holds was written by strangers: it is read as data, and nothing of
it is believed to be well formed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from confluent_kafka import KafkaException, Message, TopicPartition

from processor.codec import Codec
from processor.deadletter import CODE, FIELD, OMITTED
from processor.errors import RegistryUnavailable, RequestError, SpeechmillError
from processor.events import SpeechRequest
from processor.job import Headers
from processor.kafka import admin, headers_of
from processor.settings import KafkaSettings
from producers.reader import TopicReader

__all__ = [
    "REPLAYED",
    "Letter",
    "LetterMissing",
    "Letters",
    "NotPurged",
    "Place",
    "Reason",
    "Wanted",
    "read_letter",
]

_log = structlog.get_logger()

#: How often a record has been replayed, in decimal.
REPLAYED = "speechmill.replayed"
_CONNECT = "__connect.errors."
_OURS = (_CONNECT, "speechmill.error.")

#: The embedded broker waits as long for each partition that has nothing new, one after the other.
_FETCH_WAIT_MS = 20
#: How long the broker has to delete, in seconds.
_DELETE_S = 30.0


class LetterMissing(SpeechmillError):
    """There is no such dead letter, or no more."""


class NotPurged(SpeechmillError):
    """The broker does not delete records."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a letter is in the dead-letter topic; written ``3:17``."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Place | None":
        """The place that ``text`` names, None if it names none."""
        match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,18})", text)
        return cls(int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why it could not be served, and where it came from; None where the headers do not say."""

    code: str | None = None
    field: str | None = None
    message: str | None = None
    stage: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter: the record as it came, without our headers, and why it is here.

    ``replayed`` counts how often it had been sent again before it came here. ``omitted``: the
    record was too large for the dead-letter topic, and its value was left out. ``event`` are the
    request's fields, unchecked, and None where the value can't be decoded.
    """

    place: Place
    timestamp: datetime | None
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: Reason
    replayed: int
    omitted: bool
    event: Mapping[str, Any] | None

    @property
    def tenant(self) -> str | None:
        return None if self.event is None else _text(self.event.get("tenant", "default"))

    @property
    def request_id(self) -> str | None:
        return None if self.event is None else _text(self.event.get("request_id"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant: all conditions that are given must hold."""

    codes: frozenset[str] = frozenset()
    tenant: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __contains__(self, letter: Letter) -> bool:
        when = letter.timestamp
        if (self.since or self.until) and when is None:
            return False
        return (
            (not self.codes or letter.reason.code in self.codes)
            and self.tenant in (None, letter.tenant)
            and (self.since is None or when is None or self.since <= when)
            and (self.until is None or when is None or when < self.until)
        )


class Letters:
    """The dead letters that there are when they are first asked for. For one thread.

    Raises BrokerUnavailable, SettingsError if there is no such topic.
    """

    def __init__(self, settings: KafkaSettings, codec: Codec, *, timeout_s: float = 10.0) -> None:
        self._settings = settings
        self._codec = codec
        self._reader = TopicReader(
            settings, "deadletters", fetch_wait_ms=_FETCH_WAIT_MS, timeout_s=timeout_s
        )

    def close(self) -> None:
        self._reader.close()

    def matching(self, wanted: Wanted) -> Iterator[Letter]:
        """Those that are wanted, in the order of their places; read as they are asked for.

        Raises BrokerUnavailable; RegistryUnavailable if only the registry could tell the tenant.
        """
        for message in self._reader.present(wanted.since):
            letter = self._letter(message, strict=wanted.tenant is not None)
            if letter in wanted:
                yield letter

    def at(self, place: Place) -> Letter:
        """The letter there. Raises LetterMissing, BrokerUnavailable."""
        message = self._reader.at(place.partition, place.offset)
        if message is None:
            raise LetterMissing(
                f"{self._reader.topic} has no letter {place}; "
                "`speechmill deadletters list` shows those there are"
            )
        return self._letter(message, strict=False)

    def front(self, before: datetime | None) -> dict[int, tuple[int, int]]:
        """What purge would delete: of each partition that has something, the first offset and the
        one behind the last. With ``before`` nothing goes that is as young, or behind such a one."""
        ends = self._reader.ends()
        lows = self._reader.starts("beginning")
        if before is not None:
            young = self._reader.starts(before)
            ends = {n: min(end, young[n]) if young[n] >= 0 else end for n, end in ends.items()}
        return {n: (lows[n], end) for n, end in ends.items() if lows[n] < end}

    def purge(self, front: Mapping[int, tuple[int, int]]) -> None:
        """Delete what ``front`` found, for good. Raises NotPurged."""
        topic = self._reader.topic
        upto = [TopicPartition(topic, number, end) for number, (_, end) in front.items()]
        client = admin(self._settings)  # kept: its answers end with it
        for place, future in client.delete_records(upto, request_timeout=_DELETE_S).items():
            try:
                future.result()
            except KafkaException as error:
                raise NotPurged(
                    f"{topic}, partition {place.partition}: the broker does not delete records "
                    f"({error.args[0].str()}). The embedded one can't: it forgets them when it "
                    "ends. Apache Kafka needs the right to delete, and cleanup.policy=delete"
                ) from error

    def _letter(self, message: Message, *, strict: bool) -> Letter:
        try:
            return read_letter(message, self._codec)
        except RegistryUnavailable as error:
            if strict:
                raise
            _log.warning("events of the Schema Registry are shown undecoded", reason=str(error))
            self._codec = Codec()
            return read_letter(message, self._codec)


def read_letter(message: Message, codec: Codec) -> Letter:
    """The letter in a record of the dead-letter topic. Raises RegistryUnavailable."""
    try:
        headers = headers_of(message)
    except ValueError:  # not of our making: ours can be read
        headers = ()
    value = _bytes(message.value())
    kind, milliseconds = message.timestamp()
    try:
        # Without the headers: a content-type that is wrong may be why it is here.
        event = codec.fields(SpeechRequest, value)
    except RequestError:
        event = None
    return Letter(
        place=Place(message.partition() or 0, message.offset() or 0),
        timestamp=_instant(milliseconds) if kind else None,
        key=_bytes(message.key()),
        value=value,
        headers=tuple(pair for pair in headers if not pair[0].startswith((*_OURS, OMITTED))),
        reason=_reason(headers),
        replayed=max(0, _number(_last(headers, REPLAYED)) or 0),
        omitted=value is None and any(name.startswith(OMITTED) for name, _ in headers),
        event=event,
    )


def _reason(headers: Headers) -> Reason:
    """What the last failure wrote: a letter that other tools replayed may carry several."""
    start = max(
        (at for at, (name, _) in enumerate(headers) if name == f"{_CONNECT}topic"), default=0
    )
    last = headers[start:]
    return Reason(
        code=_last(last, CODE),
        field=_last(last, FIELD),
        message=_last(last, f"{_CONNECT}exception.message"),
        stage=_last(last, f"{_CONNECT}stage"),
        topic=_last(last, f"{_CONNECT}topic"),
        partition=_number(_last(last, f"{_CONNECT}partition")),
        offset=_number(_last(last, f"{_CONNECT}offset")),
    )


def _last(headers: Headers, wanted: str) -> str | None:
    for name, value in reversed(headers):
        if name == wanted and value is not None:
            return value.decode(errors="replace")
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _bytes(raw: str | bytes | None) -> bytes | None:
    return raw.encode() if isinstance(raw, str) else raw


def _instant(milliseconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, OSError, ValueError):  # a producer may have stamped it with anything
        return None
