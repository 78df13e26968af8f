"""The proxies do to a real broker and a real store what they claim, and nothing else."""

import time
import uuid
from collections.abc import Callable, Iterator
from io import BytesIO

import pytest
import urllib3
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from minio import Minio
from minio.error import MinioException, S3Error

from .availability import kafka_unavailable, minio_unavailable, require
from .kafka import KafkaCluster
from .kafka_proxy import Api, Fault, Rule
from .minio import MinioServer
from .store_proxy import NONE, StoreFaults, StoreProxy
from .waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(1_200)]


# -- Kafka --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    require(kafka_unavailable())
    with KafkaCluster(proxied=True) as kafka:
        yield kafka


@pytest.fixture
def kafka(cluster: KafkaCluster) -> Iterator[KafkaCluster]:
    yield cluster
    cluster.proxy.clear()


@pytest.fixture
def topic(kafka: KafkaCluster) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    return name


def producer(kafka: KafkaCluster, transactional_id: str) -> Producer:
    """Through the proxy, with a transaction to come."""
    made = Producer(
        {
            "bootstrap.servers": kafka.proxied_bootstrap,
            "transactional.id": transactional_id,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,
        }
    )
    made.init_transactions(30)
    return made


def begin(kafka: KafkaCluster, topic: str) -> Producer:
    """A producer with one record of a transaction at the broker."""
    made = producer(kafka, topic)
    made.begin_transaction()
    made.produce(topic, b"value")
    assert made.flush(10) == 0
    return made


def settled(kafka: KafkaCluster, topic: str, partitions: int = 1) -> bool:
    """Whether the topic's transactions have ended: what can be read committed reaches the end."""
    ends = []
    for level in ("read_committed", "read_uncommitted"):
        reader = Consumer(
            {"bootstrap.servers": kafka.bootstrap, "group.id": "ends", "isolation.level": level}
        )
        try:
            places = [TopicPartition(topic, number) for number in range(partitions)]
            ends.append([reader.get_watermark_offsets(place, timeout=10) for place in places])
        finally:
            reader.close()
    return ends[0] == ends[1]


def committed_values(kafka: KafkaCluster, topic: str) -> list[bytes]:
    """All of an ended topic, for a committed reader that asks the broker itself."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": f"group-{uuid.uuid4().hex[:8]}",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes] = []

    def at_the_end() -> bool:
        for message in consumer.consume(10, 0.2):
            error, value = message.error(), message.value()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                return True
            assert isinstance(value, bytes)
            values.append(value)
        return False

    try:
        wait_until(at_the_end, 20, f"the end of {topic}")
    finally:
        consumer.close()
    return values


def code_of(call: Callable[[], object]) -> int:
    with pytest.raises(KafkaException) as caught:
        call()
    return int(caught.value.args[0].code())


def test_clients_of_either_address_stay_on_their_side(kafka: KafkaCluster) -> None:
    for bootstrap in (kafka.bootstrap, kafka.proxied_bootstrap):
        brokers = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10).brokers
        assert [f"{broker.host}:{broker.port}" for broker in brokers.values()] == [bootstrap]
    assert kafka.bootstrap != kafka.proxied_bootstrap


def test_without_a_rule_all_passes(kafka: KafkaCluster, topic: str) -> None:
    begin(kafka, topic).commit_transaction(10)

    assert committed_values(kafka, topic) == [b"value"]


def test_a_late_answer_is_late_as_often_as_it_was_said(kafka: KafkaCluster, topic: str) -> None:
    transaction = begin(kafka, topic)
    rule = kafka.proxy.add(Rule(Api.END_TXN, Fault.LATE_ANSWER, seconds=1.5, times=1))
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        transaction.commit_transaction(10)
        seconds.append(time.monotonic() - began)
        transaction.begin_transaction()
        transaction.produce(topic, b"value")
        assert transaction.flush(10) == 0
    transaction.abort_transaction(10)

    assert seconds[0] >= 1.5 > seconds[1]
    assert rule.applied == 1


def test_of_a_cut_answer_the_broker_has_done_it(kafka: KafkaCluster, topic: str) -> None:
    transaction = begin(kafka, topic)
    rule = kafka.proxy.add(Rule(Api.END_TXN, Fault.CUT_ANSWER))

    assert code_of(lambda: transaction.commit_transaction(1)) == KafkaError._TIMED_OUT

    assert rule.applied > 1, "the client tried again, and met it again"
    wait_until(lambda: settled(kafka, topic), 10, "the commit")
    assert committed_values(kafka, topic) == [b"value"]


def test_of_a_cut_request_the_broker_has_not_heard(kafka: KafkaCluster, topic: str) -> None:
    transaction = begin(kafka, topic)
    rule = kafka.proxy.add(Rule(Api.END_TXN, Fault.CUT_REQUEST))

    assert code_of(lambda: transaction.commit_transaction(1)) == KafkaError._TIMED_OUT

    assert rule.applied > 1
    assert not settled(kafka, topic)
    kafka.proxy.clear()
    transaction.commit_transaction(10)
    assert committed_values(kafka, topic) == [b"value"]


def test_a_late_request_is_done_though_the_client_has_hung_up(
    kafka: KafkaCluster, topic: str
) -> None:
    def commit_and_hang_up() -> None:
        transaction = begin(kafka, topic)
        kafka.proxy.add(rule)
        transaction.commit_transaction(0.5)

    rule = Rule(Api.END_TXN, Fault.LATE_REQUEST, seconds=2, times=1)
    assert code_of(commit_and_hang_up) == KafkaError._TIMED_OUT

    assert rule.applied == 1
    assert not settled(kafka, topic)
    wait_until(lambda: settled(kafka, topic), 10, "the late commit")
    assert committed_values(kafka, topic) == [b"value"]


def test_a_rule_for_each_third_request_meets_each_third(kafka: KafkaCluster, topic: str) -> None:
    transaction = producer(kafka, topic)
    rule = kafka.proxy.add(Rule(Api.END_TXN, Fault.LATE_ANSWER, seconds=0.01, every=3))
    for number in range(7):
        transaction.begin_transaction()
        transaction.produce(topic, b"%d" % number)
        transaction.commit_transaction(10)

    assert rule.applied == 2


# -- the store ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minio() -> Iterator[MinioServer]:
    require(minio_unavailable())
    with MinioServer() as server:
        yield server


@pytest.fixture
def proxy(minio: MinioServer) -> Iterator[StoreProxy]:
    with StoreProxy(minio.endpoint) as made:
        yield made


@pytest.fixture
def bucket(minio: MinioServer) -> str:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    client(minio, minio.endpoint).make_bucket(name)
    return name


def client(minio: MinioServer, endpoint: str) -> Minio:
    """Never tries again by itself."""
    pool = urllib3.PoolManager(retries=False, timeout=10)
    keys = (minio.access_key, minio.secret_key)
    return Minio(endpoint, *keys, secure=False, region="us-east-1", http_client=pool)


def put(store: Minio, bucket: str, name: str, body: bytes) -> None:
    store.put_object(bucket, name, BytesIO(body), len(body))


def get(store: Minio, bucket: str, name: str) -> bytes:
    with store.get_object(bucket, name) as found:
        body: bytes = found.read()
        return body


def is_there(store: Minio, bucket: str, name: str) -> bool:
    try:
        store.stat_object(bucket, name)
    except S3Error:
        return False
    return True


def test_signed_requests_of_all_kinds_pass(
    minio: MinioServer, proxy: StoreProxy, bucket: str
) -> None:
    store = client(minio, proxy.endpoint)
    body = bytes(range(256)) * 5_000

    put(store, bucket, "a/b c", body)
    assert get(store, bucket, "a/b c") == body
    assert store.stat_object(bucket, "a/b c").size == len(body)
    with pytest.raises(S3Error) as caught:
        store._put_object(bucket, "a/b c", b"other", headers={"If-None-Match": "*"})
    assert caught.value.response.status == 412
    store.remove_object(bucket, "a/b c")
    assert not is_there(store, bucket, "a/b c")
    assert store.bucket_exists(bucket)
    assert proxy.counts == {"requests": 7}


def test_a_share_is_refused_and_the_same_one_each_time(
    minio: MinioServer, proxy: StoreProxy, bucket: str
) -> None:
    def run(through: StoreProxy) -> list[bool]:
        through.faults = StoreFaults(unavailable=0.3)
        store = client(minio, through.endpoint)
        done = []
        for number in range(200):
            try:
                put(store, bucket, f"{through.endpoint}/{number}", b"body")
                done.append(True)
            except MinioException:
                done.append(False)
        return done

    first = run(proxy)
    with StoreProxy(minio.endpoint) as another:
        assert run(another) == first

    refused, disowned = proxy.counts["refused"], proxy.counts["disowned"]
    assert refused + disowned == first.count(False)
    assert min(refused, disowned) > 10
    assert 40 < refused + disowned < 80
    direct = client(minio, minio.endpoint)
    stored = len(list(direct.list_objects(bucket, f"{proxy.endpoint}/")))
    assert stored == first.count(True) + disowned, "what was disowned was done"


def test_each_answer_is_late_and_done_before(
    minio: MinioServer, proxy: StoreProxy, bucket: str
) -> None:
    store, direct = client(minio, proxy.endpoint), client(minio, minio.endpoint)
    proxy.faults = StoreFaults(late_s=1)
    began = time.monotonic()
    put(store, bucket, "late", b"body")
    assert time.monotonic() - began >= 1
    assert get(direct, bucket, "late") == b"body"
    assert proxy.counts == {"requests": 1, "late": 1}

    proxy.faults = NONE
    began = time.monotonic()
    assert get(store, bucket, "late") == b"body"
    assert time.monotonic() - began < 1


def test_a_truncated_put_leaves_nothing_and_has_no_answer(
    minio: MinioServer, proxy: StoreProxy, bucket: str
) -> None:
    store, direct = client(minio, proxy.endpoint), client(minio, minio.endpoint)
    proxy.faults = StoreFaults(truncated=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        put(store, bucket, "half", b"body" * 100_000)
    assert not is_there(store, bucket, "half"), "a HEAD passes: it has no body"
    assert not is_there(direct, bucket, "half")
    assert proxy.counts == {"requests": 2, "truncated": 1}

    proxy.faults = NONE
    put(store, bucket, "half", b"body" * 100_000)
    assert get(direct, bucket, "half") == b"body" * 100_000


def test_a_store_that_is_away_ends_the_connection(minio: MinioServer, bucket: str) -> None:
    with MinioServer() as fragile, StoreProxy(fragile.endpoint) as proxy:
        store = client(fragile, proxy.endpoint)
        store.make_bucket("here")
        fragile.kill()
        with pytest.raises(urllib3.exceptions.HTTPError):
            store.bucket_exists("here")
        fragile.restart()
        assert store.bucket_exists("here")
