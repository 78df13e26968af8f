"""The real services do what the tests that use them rely on."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from io import BytesIO

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from minio import Minio
from minio.error import S3Error

from .availability import kafka_unavailable, minio_unavailable, require
from .kafka import KafkaCluster
from .minio import MinioServer
from .waiting import wait_until

pytestmark = [
    pytest.mark.real,
    # A first run fetches Kafka and builds MinIO in a fixture, which the limit counts.
    pytest.mark.timeout(1_200),
]

PARTITIONS = 8


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaCluster]:
    require(kafka_unavailable())
    with KafkaCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def minio() -> Iterator[MinioServer]:
    require(minio_unavailable())
    with MinioServer() as server:
        yield server


@pytest.fixture
def topic(kafka: KafkaCluster) -> str:
    return create_topic(kafka, replicas=1)


@pytest.fixture
def bucket(minio: MinioServer) -> str:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    client(minio).make_bucket(name)
    return name


def create_topic(kafka: KafkaCluster, replicas: int) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    created = admin.create_topics([NewTopic(name, PARTITIONS, replicas)])
    created[name].result(30)
    return name


def client(minio: MinioServer) -> Minio:
    return Minio(minio.endpoint, minio.access_key, minio.secret_key, secure=False)


def producer(kafka: KafkaCluster, transactional_id: str) -> Producer:
    made = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "transactional.id": transactional_id,
            "linger.ms": 5,
        }
    )
    made.init_transactions(30)
    return made


def values_of(kafka: KafkaCluster, topic: str, count: int) -> list[bytes]:
    """The first `count` committed values of a topic, read by a group of one (KIP-848)."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": f"group-{uuid.uuid4().hex[:8]}",
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    values: list[bytes] = []

    def read_all() -> bool:
        for message in consumer.consume(count, timeout=0.2):
            assert message.error() is None, message.error()
            value = message.value()
            assert isinstance(value, bytes)
            values.append(value)
        return len(values) >= count

    try:
        consumer.subscribe([topic])
        wait_until(read_all, 30, f"{count} values of {topic}")
    finally:
        consumer.close()
    return values


def produce(transaction: Producer, topic: str, values: list[bytes]) -> None:
    for number, value in enumerate(values):
        transaction.produce(topic, value, partition=number % PARTITIONS)


def put_if_absent(minio: MinioServer, bucket: str, name: str, body: bytes) -> int:
    """The status of a PUT with `If-None-Match: *`, which minio-py has no public call for."""
    try:
        client(minio)._put_object(bucket, name, body, headers={"If-None-Match": "*"})
    except S3Error as error:
        return int(error.response.status)
    return HTTPStatus.OK


def test_a_topic_has_the_partitions_it_was_created_with(kafka: KafkaCluster, topic: str) -> None:
    described = AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(topic, timeout=10)

    assert len(described.topics[topic].partitions) == PARTITIONS


def test_committed_records_are_read_and_aborted_ones_are_not(
    kafka: KafkaCluster, topic: str
) -> None:
    transaction = producer(kafka, topic)
    committed = [b"committed %d" % number for number in range(100)]

    transaction.begin_transaction()
    produce(transaction, topic, [b"aborted %d" % number for number in range(100)])
    transaction.flush(10)  # or the abort would drop them here, before the broker has seen them
    transaction.abort_transaction(30)
    transaction.begin_transaction()
    produce(transaction, topic, committed)
    transaction.commit_transaction(30)

    assert sorted(values_of(kafka, topic, len(committed))) == sorted(committed)


def test_a_killed_broker_comes_back_with_its_data(kafka: KafkaCluster, topic: str) -> None:
    writer = Producer({"bootstrap.servers": kafka.bootstrap})
    writer.produce(topic, b"before")
    assert writer.flush(10) == 0
    bootstrap = kafka.bootstrap

    kafka.kill(1, hard=True)
    assert not kafka.running
    kafka.restart(1)

    assert kafka.bootstrap == bootstrap
    assert values_of(kafka, topic, 1) == [b"before"]


def test_three_brokers_go_on_without_one_of_them() -> None:
    require(kafka_unavailable())
    with KafkaCluster(brokers=3) as kafka:
        topic = create_topic(kafka, replicas=3)
        transaction = producer(kafka, topic)
        kafka.kill(2, hard=True)
        assert list(kafka.running) == [1, 3]

        transaction.begin_transaction()
        produce(transaction, topic, [b"without one"] * PARTITIONS)
        transaction.commit_transaction(60)

        assert values_of(kafka, topic, PARTITIONS) == [b"without one"] * PARTITIONS
        kafka.restart(2)
        assert list(kafka.running) == [1, 2, 3]


def test_one_of_sixteen_conditional_puts_wins(minio: MinioServer, bucket: str) -> None:
    together = threading.Barrier(16)
    bodies = [b"body %d" % number for number in range(16)]

    def put(body: bytes) -> int:
        together.wait()
        return put_if_absent(minio, bucket, "once", body)

    with ThreadPoolExecutor(16) as threads:
        statuses = list(threads.map(put, bodies))

    assert sorted(statuses) == [HTTPStatus.OK] + [HTTPStatus.PRECONDITION_FAILED] * 15
    with client(minio).get_object(bucket, "once") as stored:
        assert stored.data == bodies[statuses.index(HTTPStatus.OK)]


def test_a_killed_minio_comes_back_with_its_data(minio: MinioServer, bucket: str) -> None:
    client(minio).put_object(bucket, "kept", BytesIO(b"kept"), 4, metadata={"voice": "one"})
    endpoint = minio.endpoint

    minio.kill(hard=True)
    assert not minio.running
    minio.restart()

    assert minio.endpoint == endpoint
    with client(minio).get_object(bucket, "kept") as stored:
        assert stored.data == b"kept"
        assert stored.headers["x-amz-meta-voice"] == "one"
