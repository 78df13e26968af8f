"""A real Schema Registry: the wire form, evolution, refusals, and the pipeline through an outage.

The other end of the wire is Confluent's own serializer and deserializer, not the project's codec.
"""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from processor.codec import Codec, schema_of
from processor.delivery import connect as connect_delivery
from processor.engines.base import Engine
from processor.errors import Code, RegistryUnavailable, SettingsError, Undecodable
from processor.events import Output, SpeechCompleted, SpeechRequest, Status, to_fields
from processor.kafka import topic_partitions
from processor.registry import ConfluentRegistry, connect
from processor.settings import RegistrySettings
from processor.source import KafkaSource
from processor.store import MinioStore
from processor.worker import Worker
from schemas import AvroSchema
from tests.engines import ScriptedEngine
from tests.integration.mill import Mill, RunningWorker
from tests.services.availability import registry_unavailable, require
from tests.services.registry import SchemaRegistry
from tests.waiting import eventually

pytestmark = [
    pytest.mark.real,
    # A first run fetches and builds the services in fixtures, which the limit counts.
    pytest.mark.timeout(1_200),
]

#: Kafka and MinIO for a test that takes ``mill``: the embedded parts are not worth a second run.
REAL = pytest.mark.parametrize("parts", ["real"], indirect=True)

REQUEST = SpeechRequest(
    request_id="r-1",
    text="Hello, 世界. 😀",
    seed=2**63 - 1,
    metadata={"page": "7"},
    created_at=datetime(2026, 1, 31, 12, 0, 0, 123000, tzinfo=UTC),
)


@pytest.fixture(scope="module")
def server() -> Iterator[SchemaRegistry]:
    require(registry_unavailable())
    with SchemaRegistry() as registry:
        yield registry


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name that no other test's subjects have; there is no such topic."""
    return str(request.node.name)


def client(server: SchemaRegistry) -> ConfluentRegistry:
    """A client that knows nothing yet."""
    registry = connect(RegistrySettings(url=server.url))
    assert registry is not None
    return registry


def serialized(server: SchemaRegistry, topic: str, schema: AvroSchema, fields: object) -> bytes:
    """What a producer with Confluent's serializer sends."""
    write = AvroSerializer(SchemaRegistryClient({"url": server.url}), json.dumps(schema))
    value: bytes | None = write(fields, SerializationContext(topic, MessageField.VALUE))
    assert value is not None
    return value


def deserialized(server: SchemaRegistry, topic: str, value: bytes) -> dict[str, Any]:
    """What a consumer with Confluent's deserializer receives, by the writer's schema."""
    read = AvroDeserializer(SchemaRegistryClient({"url": server.url}))
    fields = read(value, SerializationContext(topic, MessageField.VALUE))
    assert isinstance(fields, dict)
    return fields


def changed(kind: type) -> AvroSchema:
    """A copy of the current schema that a test may change."""
    return copy.deepcopy(schema_of(kind))


# --- the codec ------------------------------------------------------------------------------------


def test_confluents_deserializer_reads_what_the_codec_writes(
    server: SchemaRegistry, topic: str
) -> None:
    value = Codec(client(server)).encode(REQUEST, topic=topic)

    assert value[:1] == b"\x00"
    assert client(server).schema(int.from_bytes(value[1:5], "big")) == schema_of(SpeechRequest)
    assert deserialized(server, topic, value) == to_fields(REQUEST)


def test_the_codec_reads_what_confluents_serializer_writes(
    server: SchemaRegistry, topic: str
) -> None:
    value = serialized(server, topic, schema_of(SpeechRequest), to_fields(REQUEST))

    assert Codec(client(server)).decode(SpeechRequest, value) == REQUEST


def test_an_old_reader_leaves_out_what_only_a_new_writer_has(
    server: SchemaRegistry, topic: str
) -> None:
    Codec(client(server)).ready(SpeechRequest, topic)
    newer = changed(SpeechRequest)
    newer["fields"].insert(2, {"name": "style", "type": ["null", "string"], "default": None})
    fields = {"request_id": "r-1", "text": "Hello.", "style": "solemn", "speed": 2.0}

    value = serialized(server, topic, newer, fields)

    assert Codec(client(server)).decode(SpeechRequest, value) == SpeechRequest(
        request_id="r-1", text="Hello.", speed=2.0
    )


def test_a_new_reader_fills_in_what_an_old_writer_does_not_have(
    server: SchemaRegistry, topic: str
) -> None:
    older = changed(SpeechRequest)
    older["fields"] = [f for f in older["fields"] if f["name"] not in ("output", "metadata")]

    value = serialized(server, topic, older, {"request_id": "r-1", "text": "Hello."})
    Codec(client(server)).ready(SpeechRequest, topic)  # it evolves the older one: not refused

    assert Codec(client(server)).decode(SpeechRequest, value) == SpeechRequest(
        request_id="r-1", text="Hello.", output=Output(), metadata={}
    )


def test_a_schema_that_could_not_read_what_is_there_is_refused(
    server: SchemaRegistry, topic: str
) -> None:
    other = changed(SpeechCompleted)
    next(f for f in other["fields"] if f["name"] == "request_id")["type"] = "long"
    client(server).register(f"{topic}-value", other)

    with pytest.raises(SettingsError, match=rf"{topic}-value was refused: .*(?i:incompatible)"):
        Codec(client(server)).ready(SpeechCompleted, topic)


@pytest.mark.parametrize("schema_id", [0, 77_777, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_number_that_nobody_registered_is_a_bad_record(
    server: SchemaRegistry, schema_id: int
) -> None:
    with pytest.raises(Undecodable, match=f"no schema {schema_id}$") as caught:
        Codec(client(server)).decode(SpeechRequest, b"\x00" + schema_id.to_bytes(4, "big"))

    assert caught.value.code is Code.UNKNOWN_SCHEMA


def test_an_address_that_is_not_the_registrys_makes_no_record_bad(
    server: SchemaRegistry, topic: str
) -> None:
    value = Codec(client(server)).encode(REQUEST, topic=topic)
    astray = connect(RegistrySettings(url=server.url.removesuffix("/v7")))

    with pytest.raises(RegistryUnavailable):
        Codec(astray).decode(SpeechRequest, value)


# --- the pipeline ---------------------------------------------------------------------------------


class Counted:
    """A registry that counts how often it was asked for a schema, and how often it answered."""

    def __init__(self, registry: ConfluentRegistry) -> None:
        self._registry = registry
        self.asked = 0
        self.answered = 0

    def schema(self, schema_id: int) -> AvroSchema:
        self.asked += 1
        schema = self._registry.schema(schema_id)
        self.answered += 1
        return schema

    def register(self, subject: str, schema: AvroSchema) -> int:
        return self._registry.register(subject, schema)


def start(mill: Mill, engine: Engine, registry: Counted) -> RunningWorker:
    """A worker in this process that reads and writes with ``registry``, as the command makes it."""
    settings = mill.settings
    codec = Codec(registry)
    codec.ready(SpeechCompleted, settings.kafka.completions)
    worker = Worker(
        settings,
        engine,
        MinioStore(settings.store),
        codec,
        connect_delivery(settings, topic_partitions(settings.kafka, timeout_s=10.0)),
        lambda listener: KafkaSource(settings.kafka, settings.worker.name, listener),
    )
    running = RunningWorker(worker)
    mill.workers.append(running)
    return running


def asked_for(mill: Mill, server: SchemaRegistry, **fields: Any) -> bytes:
    """A request as a producer with Confluent's serializer sends it."""
    return serialized(server, mill.settings.kafka.requests, schema_of(SpeechRequest), fields)


def completions(mill: Mill, server: SchemaRegistry, count: int) -> list[dict[str, Any]]:
    """All completions, as a consumer with Confluent's deserializer receives them."""
    topic = mill.settings.kafka.completions
    messages = mill._read(topic, count, 60.0)
    return [deserialized(server, topic, message.value()) for message in messages]


def written_to(mill: Mill, topic: str) -> int:
    """How many offsets of ``topic`` are taken, by anything at all."""
    consumer = Consumer({"bootstrap.servers": mill.parts.bootstrap, "group.id": "tests"})
    try:
        ends = [
            consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=20)
            for number in range(mill.partitions)
        ]
    finally:
        consumer.close()
    return sum(end for _, end in ends)


@REAL
def test_requests_and_completions_take_the_registrys_form(
    mill: Mill, server: SchemaRegistry
) -> None:
    engine = ScriptedEngine()
    start(mill, engine, Counted(client(server)))
    mill.produce(asked_for(mill, server, request_id="framed", text="By its number."))
    mill.ask("By its fingerprint.", request_id="bare")

    events = {event["request_id"]: event for event in completions(mill, server, 2)}

    assert {event["status"] for event in events.values()} == {Status.COMPLETED}
    assert {name: event["segments"][0]["text"] for name, event in events.items()} == {
        "framed": "By its number.",
        "bare": "By its fingerprint.",
    }
    assert sorted(engine.spoken) == ["By its fingerprint.", "By its number."]
    audio = events["framed"]["audio"]
    assert mill.store.size(audio["key"]) == audio["bytes"]


@dataclass(frozen=True)
class Fault:
    begin: Callable[[SchemaRegistry], None]
    end: Callable[[SchemaRegistry], None]


#: A killed one refuses connections; a frozen one takes them and is silent.
FAULTS = {
    "killed": Fault(SchemaRegistry.kill, SchemaRegistry.restart),
    "frozen": Fault(SchemaRegistry.pause, SchemaRegistry.resume),
}


@contextmanager
def away(server: SchemaRegistry, fault: Fault) -> Iterator[None]:
    fault.begin(server)
    try:
        yield
    finally:
        fault.end(server)


@REAL
@pytest.mark.fault
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_record_waits_for_the_registry_that_knows_its_schema(
    mill: Mill, server: SchemaRegistry, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processor.registry._TIMEOUT_S", 1.0)  # of a silence, four times a try
    engine, registry = ScriptedEngine(), Counted(client(server))
    running = start(mill, engine, registry)
    request = asked_for(mill, server, request_id="r-1", text="Worth the wait.")

    with away(server, fault):
        mill.produce(request)
        eventually(lambda: registry.asked >= 2, "the worker asks for the schema, and again")
        with pytest.raises(RegistryUnavailable):
            impatient(server).ping()
        assert (registry.answered, engine.spoken, mill.committed()) == (0, [], 0)

    (event,) = completions(mill, server, 1)

    assert (event["request_id"], event["status"]) == ("r-1", Status.COMPLETED)
    assert registry.answered == 1
    assert engine.spoken == ["Worth the wait."]
    eventually(lambda: mill.committed() >= 1, "the record is committed")
    running.stop()
    assert written_to(mill, mill.settings.kafka.deadletters) == 0


def impatient(server: SchemaRegistry) -> ConfluentRegistry:
    """A client of one try and one second."""
    config = {"url": server.url, "max.retries": 0, "timeout": 1}
    return ConfluentRegistry(SchemaRegistryClient(config))
