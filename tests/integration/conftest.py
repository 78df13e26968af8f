"""The services that the integration tests share: started once, stopped at the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from processor.engines.base import Engine
from processor.engines.hibari import HibariEngine
from processor.local.stack import Stack
from processor.settings import EngineSettings
from tests.integration.mill import Mill, Parts
from tests.services.availability import kafka_unavailable, minio_unavailable, require
from tests.services.kafka import KafkaCluster
from tests.services.minio import MinioServer

EMBEDDED = pytest.param("embedded", marks=pytest.mark.integration)
REAL = pytest.param("real", marks=pytest.mark.real)


@pytest.fixture(scope="session", params=[EMBEDDED, REAL])
def parts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Parts]:
    """A broker and a store: the embedded ones, and with ``-m real`` Apache Kafka and MinIO."""
    yield from provide(request.param, tmp_path_factory)


def provide(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """The services of a kind, until the generator is closed."""
    if kind == "embedded":
        stack = Stack(tmp_path_factory.mktemp("stack"))
        yield Parts("embedded", stack.broker.bootstrap, stack.bucket.endpoint)
        stack.stop()
        return
    require(kafka_unavailable() or minio_unavailable())
    with KafkaCluster() as kafka, MinioServer() as minio:
        yield real_parts(kafka, minio)


def real_parts(kafka: KafkaCluster, store: MinioServer, *, replication: int = 1) -> Parts:
    """Where these services are."""
    return Parts(
        "real",
        kafka.bootstrap,
        f"http://{store.endpoint}",
        store.access_key,
        store.secret_key,
        session_timeout_ms=6000,  # the least that Kafka allows by default
        delivery="exactly_once",
        replication=replication,
    )


@pytest.fixture
def mill(parts: Parts, tmp_path: Path) -> Iterator[Mill]:
    corner = Mill(parts, tmp_path)
    yield corner
    corner.close()


@pytest.fixture(scope="session")
def hibari() -> Engine:
    """The real engine, warm, two lanes."""
    engine = HibariEngine(EngineSettings(threads=2))
    engine.warm_up()
    return engine
