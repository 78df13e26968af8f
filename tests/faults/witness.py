"""The reader that judges: what a stranger finds in the topics, the group and the bucket.

Takes nothing from ``processor`` or ``producers``: an error there must not be believed here. It
reads with plain clients, as anybody would who has the schemas. What must hold of what it finds is
said in invariants; here are only the two that are seen in the group itself, while it works and at
its end: E, that its offsets never pass a record without an answer, and G, that no transaction is
left open.
"""

import io
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from fastavro.schema import fingerprint, to_parsing_canonical_form
from minio import Minio
from minio.error import S3Error

__all__ = ["Answer", "Letter", "Partition", "Place", "Places", "Record", "Watch", "Witness"]

Partition = tuple[str, int]
"""Topic and number."""
Place = tuple[str, int, int]
"""Topic, partition and offset of a request."""

_SCHEMAS = Path(__file__).parents[2] / "schemas"
_SPOKEN = ("completed", "completed_with_warnings")
#: How soon what is committed must be readable: the transaction's markers are on their way to other
#: partitions when its offsets can be seen already. In seconds, for a busy machine.
_MARKERS_S = 10.0
#: How often the group is looked at while a test goes on, in seconds.
_LOOK_S = 0.2
#: How long one call waits for a broker, in seconds.
_CALL_S = 5.0


@dataclass(frozen=True)
class Places:
    """Where to look. ``requests`` are the topics that are asked on, each with the group of its
    workers."""

    bootstrap: str
    requests: Mapping[str, str]
    completions: str
    deadletters: str
    endpoint: str
    access_key: str
    secret_key: str


@dataclass(frozen=True)
class Record:
    """A record of a request topic. ``fields`` is None if no event can be read from it."""

    place: Place
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    fields: dict[str, Any] | None

    @property
    def request_id(self) -> str | None:
        """Whom to answer to."""
        name = (self.fields or {}).get("request_id")
        return name if isinstance(name, str) and name else None


@dataclass(frozen=True)
class Answer:
    """A completion: where it is, where it says its request is, and all that it says."""

    partition: int
    offset: int
    fields: dict[str, Any]

    @property
    def place(self) -> Place:
        source = self.fields["source"] or {}
        return source.get("topic", ""), source.get("partition", -1), source.get("offset", -1)

    @property
    def request_id(self) -> str:
        return str(self.fields["request_id"])

    @property
    def code(self) -> str | None:
        """Of its error."""
        error = self.fields["error"]
        return None if error is None else str(error["code"])

    @property
    def spoken(self) -> bool:
        return self.fields["status"] in _SPOKEN


@dataclass(frozen=True)
class Letter:
    """A dead letter."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> str:
        return next((raw.decode() for key, raw in self.headers if key == name), "")

    @property
    def place(self) -> Place:
        topic, *numbers = (
            self.header(f"__connect.errors.{name}") for name in ("topic", "partition", "offset")
        )
        partition, offset = (int(number or -1) for number in numbers)
        return topic, partition, offset


class Witness:
    """Reads everything from the beginning. Changes nothing; joins no group."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._admin = AdminClient({"bootstrap.servers": places.bootstrap, "log_level": 0})
        scheme, _, netloc = places.endpoint.partition("://")
        self._store = Minio(
            netloc.rstrip("/"),
            access_key=places.access_key or None,
            secret_key=places.secret_key or None,
            secure=scheme == "https",
            region="us-east-1",
        )
        self._numbers: dict[str, list[int]] = {}
        self._readers: dict[tuple[str, str], Consumer] = {}
        self._request_schemas = _schemas("speech_request")
        self._completion_schemas = _schemas("speech_completed")

    # -- what there is --------------------------------------------------------------------------

    def committed(self, seconds: float = 30.0) -> dict[Partition, int]:
        """The offset of each partition that is asked on, of its topic's group; 0 where there is
        none.

        Those of transactions that are through: one under way holds nobody up here. Asks again for
        ``seconds`` while a group's coordinator is away, and then raises KafkaException.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._committed()
            except KafkaException:
                if time.monotonic() > deadline:
                    raise

    def _committed(self) -> dict[Partition, int]:
        offsets = {}
        for topic, group in self.places.requests.items():
            asked = [TopicPartition(topic, number) for number in self.partitions(topic)]
            reader = self._reader("read_uncommitted", group)
            for place in reader.committed(asked, timeout=_CALL_S):
                offsets[topic, place.partition] = max(0, place.offset)
        return offsets

    def done(self) -> int:
        """How many records the group has done for good."""
        return sum(self.committed().values())

    def shares(self) -> dict[str, set[Partition]]:
        """What each member of the groups has, by its client's name; empty while one is being shared
        out anew, or its coordinator can't say."""
        shares: dict[str, set[Partition]] = defaultdict(set)
        for group in self.places.requests.values():
            (future,) = self._admin.describe_consumer_groups([group], request_timeout=60).values()
            try:
                found = future.result()
            except KafkaException:
                return {}
            if found.state != ConsumerGroupState.STABLE:
                return {}
            for member in found.members:
                shares[member.client_id] |= {
                    (place.topic, place.partition) for place in member.assignment.topic_partitions
                }
        return dict(shares)

    def ends(self, topic: str, *, stable: bool = False) -> dict[int, int]:
        """One past the last record of each partition: of all, or of those that are ``stable``,
        behind no open transaction."""
        reader = self._reader("read_committed" if stable else "read_uncommitted")
        found = {}
        for number in self.partitions(topic):
            place = TopicPartition(topic, number)
            marks = reader.get_watermark_offsets(place, timeout=_CALL_S, cached=False)
            if marks is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            found[number] = marks[1]
        return found

    def records(self) -> list[Record]:
        """The request topics, one after the other."""
        return [
            Record(
                (topic, int(message.partition() or 0), int(message.offset() or 0)),
                _bytes(message.key()),
                _bytes(message.value()),
                _headers(message),
                self._event(_bytes(message.value())),
            )
            for topic in self.places.requests
            for message in self._read(topic)
        ]

    def answers(self) -> list[Answer]:
        """The completions, each partition's in its order."""
        return [self.answer(message) for message in self._read(self.places.completions)]

    def letters(self) -> list[Letter]:
        """The dead letters."""
        return [_letter(message) for message in self._read(self.places.deadletters)]

    def object(self, bucket: str, key: str) -> bytes | None:
        """An object's bytes, None if there is none."""
        try:
            response = self._store.get_object(bucket, key)
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject"):
                return None
            raise
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()

    # -- what must be ---------------------------------------------------------------------------

    @contextmanager
    def watching(self) -> Iterator["Watch"]:
        """Look at E all the while that the block runs."""
        watch = Watch(self)
        try:
            yield watch
        finally:
            watch.stop()

    def settle(self, seconds: float) -> list[str]:
        """Wait until the group is at the topic's end and no transaction is open, for ``seconds`` at
        most; what of E and G is violated then."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = self._unfinished()
            except KafkaException as error:  # a broker is being restarted
                found = [f"E the group can't be asked: {error.args[0].str()}"]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.1)

    def _unfinished(self) -> list[str]:
        places, found = self.places, []
        committed = self.committed(0)
        for topic in places.requests:
            found += [
                f"E {topic}/{number}: committed {committed[topic, number]}, its end is {end}"
                for number, end in self.ends(topic).items()
                if committed[topic, number] != end
            ]
        for topic in (*places.requests, places.completions, places.deadletters):
            stable = self.ends(topic, stable=True)
            found += [
                f"G {topic}/{number}: open from {stable[number]} on, its end is {end}"
                for number, end in self.ends(topic).items()
                if stable[number] != end
            ]
        return found

    # -- the clients ----------------------------------------------------------------------------

    def partitions(self, topic: str) -> list[int]:
        """The numbers of a topic's partitions. Raises KafkaException if there is no such topic."""
        if topic not in self._numbers:
            found = self._admin.list_topics(topic, timeout=_CALL_S).topics[topic]
            if found.error is not None:
                raise KafkaException(found.error)
            self._numbers[topic] = sorted(found.partitions)
        return self._numbers[topic]

    def reader(self, isolation: str = "read_committed", group: str = "witness") -> Consumer:
        """A client that says when a partition has no more. It never joins a group."""
        return Consumer(
            {
                "bootstrap.servers": self.places.bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": isolation,
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )

    def _reader(self, isolation: str, group: str = "witness") -> Consumer:
        """One to ask questions of, kept. For them the admin client won't do: librdkafka 2.16 ends
        the process where an answer comes after the time-out (``rd_kafka_enq_once``)."""
        if (isolation, group) not in self._readers:
            self._readers[isolation, group] = self.reader(isolation, group)
        return self._readers[isolation, group]

    def _read(self, topic: str, seconds: float = 60.0) -> list[Message]:
        """Every committed record from offset 0 to the end, each partition's in its order."""
        left = {number: end for number, end in self.ends(topic, stable=True).items() if end}
        consumer = self.reader()
        found: list[Message] = []
        deadline = time.monotonic() + seconds
        try:
            consumer.assign([TopicPartition(topic, number, 0) for number in left])
            while left:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{topic}: not read to its end, {left} are missing")
                for message in consumer.consume(500, 0.5):
                    number = int(message.partition() or 0)
                    error = message.error()
                    if error is None:
                        found.append(message)
                    elif error.code() != KafkaError._PARTITION_EOF:
                        continue  # the client tries again by itself
                    # A marker of a transaction takes an offset too, and is no message.
                    elif int(message.offset() or 0) >= left.get(number, 0):
                        left.pop(number, None)
        finally:
            consumer.close()
        return found

    def answer(self, message: Message) -> Answer:
        fields = _avro(_bytes(message.value()) or b"", self._completion_schemas)
        if fields is None:
            raise AssertionError(f"no completion: {message.value()!r}")
        return Answer(int(message.partition() or 0), int(message.offset() or 0), fields)

    def _event(self, value: bytes | None) -> dict[str, Any] | None:
        if not value:
            return None
        if value.startswith(b"{"):
            try:
                found = json.loads(value)
            except ValueError:
                return None
            return found if isinstance(found, dict) else None
        return _avro(value, self._request_schemas)


class Watch:
    """Looks at the group again and again while a test goes on: what is committed is answered.

    ``looks`` counts how often; ``violations`` are of E.
    """

    def __init__(self, witness: Witness) -> None:
        self.looks = 0
        self.violations: list[str] = []
        self._witness = witness
        self._answered: dict[Partition, set[int]] = defaultdict(set)
        self._low: Counter[Partition] = Counter()  # of each partition: the first without an answer
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._consumer = witness.reader()
        places = witness.places
        self._consumer.assign(
            [
                TopicPartition(topic, number, 0)
                for topic in (places.completions, places.deadletters)
                for number in witness.partitions(topic)
            ]
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it. Raises what ended it before."""
        self._stop.set()
        self._thread.join(2 * _MARKERS_S)
        self._consumer.close()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.wait(_LOOK_S):
                self._look()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self._error = error

    def _look(self) -> None:
        try:
            committed = self._witness.committed(0)
        except KafkaException:  # the coordinator is away, or moving: another time
            return
        deadline = time.monotonic() + _MARKERS_S
        while late := self._late(committed):
            if time.monotonic() > deadline:
                self.violations.append(f"E committed beyond an answer (partition → offset): {late}")
                return
            self._take()
        self.looks += 1

    def _late(self, committed: dict[Partition, int]) -> dict[Partition, int]:
        for partition, answered in self._answered.items():
            while self._low[partition] in answered:
                answered.remove(self._low[partition])
                self._low[partition] += 1
        return {p: self._low[p] for p, offset in committed.items() if offset > self._low[p]}

    def _take(self) -> None:
        for message in self._consumer.consume(500, 0.1):
            if message.error() is not None:
                continue
            if message.topic() == self._witness.places.completions:
                topic, number, offset = self._witness.answer(message).place
            else:
                topic, number, offset = _letter(message).place
            if offset >= self._low[topic, number]:
                self._answered[topic, number].add(offset)


# -- the wire -------------------------------------------------------------------------------------


def _schemas(name: str) -> dict[bytes, Any]:
    """The schema under the fingerprint that a single object of it begins with."""
    raw = json.loads((_SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))
    digest = bytes.fromhex(fingerprint(to_parsing_canonical_form(raw), "CRC-64-AVRO"))
    return {b"\xc3\x01" + digest: fastavro.parse_schema(raw)}


def _avro(value: bytes, known: dict[bytes, Any]) -> dict[str, Any] | None:
    """An Avro single object's fields, None if it is none of these."""
    schema = known.get(value[:10])
    if schema is None:
        return None
    stream = io.BytesIO(value[10:])
    try:
        fields = fastavro.schemaless_reader(stream, schema, schema)
    except (ArithmeticError, EOFError, LookupError, TypeError, ValueError):
        return None
    whole = stream.tell() == len(value) - 10
    return fields if whole and isinstance(fields, dict) else None


def _letter(message: Message) -> Letter:
    return Letter(_bytes(message.key()), _bytes(message.value()), _headers(message))


def _headers(message: Message) -> tuple[tuple[str, bytes], ...]:
    found = message.headers() or []
    pairs = found.items() if isinstance(found, dict) else found
    return tuple((key, _bytes(value) or b"") for key, value in pairs)


def _bytes(raw: str | bytes | None) -> bytes | None:
    return raw.encode() if isinstance(raw, str) else raw
