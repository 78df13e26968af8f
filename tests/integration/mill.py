"""One test's own corner of the shared services: fresh topics, a fresh group, a fresh bucket.

What the tests look at is read with plain confluent-kafka and the store's own client, not with the
project's readers.
"""

import json
import sys
import threading
import traceback
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from processor.checks import from_fields
from processor.codec import Codec, schema_of
from processor.delivery import connect
from processor.engines.base import Engine
from processor.events import SpeechCompleted, SpeechRequest
from processor.kafka import create_topics, group_of, topic_partitions
from processor.local.child import Child
from processor.local.stack import start_worker
from processor.settings import Settings, load
from processor.source import KafkaSource
from processor.store import MinioStore
from processor.worker import Worker
from producers.client import make_request
from tests.waiting import eventually

__all__ = ["Letter", "Mill", "Parts", "RunningWorker"]


@dataclass(frozen=True)
class Parts:
    """Where the services are. ``kind`` is ``embedded`` or ``real``."""

    kind: str
    bootstrap: str
    endpoint: str
    access_key: str = ""
    secret_key: str = ""
    session_timeout_ms: int = 2000
    delivery: str = "at_least_once"
    replication: int = 1


@dataclass(frozen=True)
class Letter:
    """A dead letter as a plain consumer sees it."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


#: The group's coordinator is being found, is loading, or has moved.
_MOVING = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
)


class RunningWorker:
    """A worker on a thread of this process. ``stop`` drains it; ``error`` is what ended it."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.error = error
            traceback.print_exception(error)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self.worker.stop()
        self._thread.join(40)
        assert not self._thread.is_alive(), "the worker did not stop"
        if self.error is not None:
            raise self.error


@dataclass
class Mill:
    """Topics, a group and a bucket that no other test knows; workers that end with the test."""

    parts: Parts
    folder: Path
    partitions: int = 8
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    workers: list[RunningWorker] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = self.with_settings()
        create_topics(self.settings.kafka, timeout_s=20.0)
        self.store = MinioStore(self.settings.store)
        self.store.ensure_bucket()
        # Idempotent, so that it keeps its own order: the tests judge the worker's.
        self._producer = Producer(
            {"bootstrap.servers": self.parts.bootstrap, "enable.idempotence": True}
        )

    def with_settings(self, **overrides: dict[str, Any]) -> Settings:
        """This corner's settings, with ``overrides`` by group."""
        groups: dict[str, dict[str, Any]] = {
            "kafka": {
                "bootstrap": self.parts.bootstrap,
                "requests": f"requests-{self.id}",
                "priority": f"priority-{self.id}",
                "completions": f"completions-{self.id}",
                "deadletters": f"deadletters-{self.id}",
                "group": f"group-{self.id}",
                "partitions": self.partitions,
                "replication": self.parts.replication,
                "session_timeout_ms": self.parts.session_timeout_ms,
                "delivery": self.parts.delivery,
            },
            "store": {
                "endpoint": self.parts.endpoint,
                "access_key": self.parts.access_key,
                "secret_key": self.parts.secret_key,
                "bucket": f"speech-{self.id}",
            },
            "worker": {"name": f"worker-{self.id}"},
        }
        for name, values in overrides.items():
            groups[name] = groups.get(name, {}) | values
        return load(overrides=groups)

    def environment(self, **more: str) -> dict[str, str]:
        """The variables that lead a process of its own here."""
        kafka, store = self.settings.kafka, self.settings.store
        return {
            "SPEECHMILL_KAFKA__BOOTSTRAP": kafka.bootstrap,
            "SPEECHMILL_KAFKA__REQUESTS": kafka.requests,
            "SPEECHMILL_KAFKA__PRIORITY": kafka.priority,
            "SPEECHMILL_KAFKA__COMPLETIONS": kafka.completions,
            "SPEECHMILL_KAFKA__DEADLETTERS": kafka.deadletters,
            "SPEECHMILL_KAFKA__GROUP": kafka.group,
            "SPEECHMILL_KAFKA__PARTITIONS": str(kafka.partitions),
            "SPEECHMILL_KAFKA__SESSION_TIMEOUT_MS": str(kafka.session_timeout_ms),
            "SPEECHMILL_KAFKA__DELIVERY": kafka.delivery,
            "SPEECHMILL_ENGINE__MAX_BATCH": "16",  # chosen, so that nothing is measured at start
            "SPEECHMILL_STORE__ENDPOINT": store.endpoint,
            "SPEECHMILL_STORE__ACCESS_KEY": store.access_key.get_secret_value(),
            "SPEECHMILL_STORE__SECRET_KEY": store.secret_key.get_secret_value(),
            "SPEECHMILL_STORE__BUCKET": store.bucket,
            **more,
        }

    # -- workers --------------------------------------------------------------------------------

    def start(self, engine: Engine, /, **overrides: dict[str, Any]) -> RunningWorker:
        """A worker in this process, with ``engine`` warm."""
        settings = self.with_settings(**overrides)
        counts = topic_partitions(settings.kafka, timeout_s=10.0)
        running = RunningWorker(
            Worker(
                settings,
                engine,
                MinioStore(settings.store),
                Codec(),
                connect(settings, counts),
                lambda listener: KafkaSource(settings.kafka, settings.worker.name, listener),
            )
        )
        self.workers.append(running)
        return running

    def start_process(self, name: str, **environment: str) -> Child:
        """A worker in a process of its own, with the default engine on one thread."""
        child = start_worker(
            name,
            self.folder,
            self.environment(SPEECHMILL_ENGINE__THREADS="1", **environment),
        )
        self.children.append(child)
        return child

    def start_module(self, name: str, *arguments: str, **environment: str) -> Child:
        """A worker process as ``python -m`` runs it with these arguments, from this checkout."""
        variables = {
            "SPEECHMILL_WORKER__NAME": name,
            "SPEECHMILL_LOG__FORMAT": "json",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **environment,
        }
        command = [sys.executable, "-m", *arguments]
        log = self.folder / f"{name}.log"
        child = Child(f"worker {name}", command, log, self.environment(**variables))
        self.children.append(child)
        return child

    def log_of(self, child: Child) -> list[dict[str, Any]]:
        """What a worker process has logged so far."""
        lines = child.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def close(self) -> None:
        for child in self.children:
            child.stop()
        for running in self.workers:
            if running.alive:
                running.stop()

    # -- in -------------------------------------------------------------------------------------

    def ask(
        self,
        text: str | None = None,
        *,
        partition: int = -1,
        urgent: bool = False,
        **fields: Any,
    ) -> SpeechRequest:
        """Produce one request, as Avro; returns it."""
        request = make_request(text, **fields)
        value = Codec().encode(request, topic=self.settings.kafka.requests)
        key = request.request_id.encode()
        self.produce(value, key=key, partition=partition, urgent=urgent)
        return request

    def produce(
        self,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: dict[str, bytes] | None = None,
        partition: int = -1,
        urgent: bool = False,
    ) -> None:
        """Produce any bytes to a request topic."""
        arguments: dict[str, Any] = {} if partition < 0 else {"partition": partition}
        self._producer.produce(
            self.settings.kafka.priority if urgent else self.settings.kafka.requests,
            value=value,
            key=key,
            headers=list((headers or {}).items()),
            **arguments,
        )
        self._producer.poll(0)  # or the client keeps every report of a delivery

    def flush(self) -> None:
        """Have all that was asked for in the topic."""
        assert self._producer.flush(30) == 0, "the broker has not taken all requests"

    # -- out ------------------------------------------------------------------------------------

    def completions(self, count: int, seconds: float = 40.0) -> list[SpeechCompleted]:
        """All completions, from the topic's beginning, once there are ``count``."""
        return [event for _, event in self.completions_by_partition(count, seconds)]

    def completions_by_partition(
        self, count: int, seconds: float = 40.0
    ) -> list[tuple[int, SpeechCompleted]]:
        found = [
            (message.partition(), _completion(message.value()))
            for message in self._read(self.settings.kafka.completions, count, seconds)
        ]
        assert len(found) == count, f"{len(found)} completions instead of {count}"
        return found

    def letters(self, count: int, seconds: float = 40.0) -> list[Letter]:
        """All dead letters, once there are ``count``."""
        found = [
            Letter(message.key(), message.value(), dict(message.headers() or []))
            for message in self._read(self.settings.kafka.deadletters, count, seconds)
        ]
        assert len(found) == count, f"{len(found)} dead letters instead of {count}"
        return found

    def committed(self, topic: str | None = None) -> int:
        """The sum of the group's committed offsets: how many records are done for good."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.parts.bootstrap,
                "group.id": group_of(self.settings.kafka, topic or self.settings.kafka.requests),
            }
        )
        places = [
            TopicPartition(topic or self.settings.kafka.requests, number)
            for number in range(self.partitions)
        ]
        found: list[TopicPartition] = []

        def answered() -> bool:
            try:
                found[:] = consumer.committed(places, timeout=20)
            except KafkaException as error:
                if error.args[0].code() not in _MOVING:
                    raise
                return False
            return True

        try:
            eventually(answered, "the group's offsets")
        finally:
            consumer.close()
        return sum(max(0, place.offset) for place in found)

    def _read(self, topic: str, count: int, seconds: float) -> list[Any]:
        """Everything in ``topic``, read until ``count`` are there and a little longer."""
        self._producer.flush(10)
        consumer = Consumer(
            {
                "bootstrap.servers": self.parts.bootstrap,
                "group.id": f"tests-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
            }
        )
        consumer.assign([TopicPartition(topic, number, 0) for number in range(self.partitions)])
        found: list[Any] = []

        def enough() -> bool:
            found.extend(m for m in consumer.consume(500, 0.2) if m.error() is None)
            return len(found) >= count

        try:
            eventually(enough, f"{count} records in {topic} (there are {len(found)})", seconds)
            enough()  # one too many would come now
        finally:
            consumer.close()
        return found


def _completion(value: bytes) -> SpeechCompleted:
    """Decoded with fastavro alone: magic, fingerprint, body."""
    import io

    assert value[:2] == b"\xc3\x01"
    schema = fastavro.parse_schema(schema_of(SpeechCompleted))
    fields = fastavro.schemaless_reader(io.BytesIO(value[10:]), schema, schema)
    return from_fields(SpeechCompleted, fields)
