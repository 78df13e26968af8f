"""Brokers and the store go away under load and come back: work waits, and nothing fails.

Three brokers and a store of their own, so that no other test feels it.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from processor.local.child import free_port
from tests.faults.invariants import check
from tests.faults.test_kills import SMALL, text
from tests.integration.conftest import real_parts
from tests.integration.mill import Mill
from tests.services.availability import kafka_unavailable, minio_unavailable, require
from tests.services.kafka import KafkaCluster
from tests.services.minio import MinioServer
from tests.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(900)]

REQUESTS = 300


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[KafkaCluster, MinioServer]]:
    require(kafka_unavailable() or minio_unavailable())
    with KafkaCluster(3) as kafka, MinioServer() as store:
        yield kafka, store


@pytest.fixture
def fragile(services: tuple[KafkaCluster, MinioServer], tmp_path: Path) -> Iterator[Mill]:
    kafka, store = services
    mill = Mill(
        real_parts(kafka, store, replication=3),
        tmp_path,
    )
    yield mill
    mill.close()


def load(mill: Mill, port: int = 0) -> list[str]:
    """Two workers under way with all requests asked for; the first answers probes on ``port``."""
    for name in ("one", "two"):
        probes = {"SPEECHMILL_HEALTH__PORT": str(port)} if name == "one" and port else {}
        mill.start_process(name, SPEECHMILL_STORE__TIMEOUT_S="3", **SMALL, **probes)
    asked = [mill.ask(text(n)).request_id for n in range(REQUESTS)]
    eventually(lambda: mill.committed() > 0, "a beginning", 90)
    assert mill.committed() < REQUESTS, "there is work left for the fault to meet"
    return asked


def probe(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def until_progress(mill: Mill, before: int, seconds: float) -> float:
    """Seconds until something was committed since ``before``."""
    began = time.monotonic()
    eventually(lambda: mill.committed() > before, "progress after the fault", seconds)
    return time.monotonic() - began


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_store_that_is_away_costs_nothing(
    fragile: Mill, services: tuple[KafkaCluster, MinioServer], how: str
) -> None:
    _, store = services
    port = free_port()
    asked = load(fragile, port)
    eventually(lambda: probe(port, "/readyz")[0] == 200, "the worker to be ready")
    (store.kill if how == "killed" else store.pause)()
    time.sleep(8)  # the outage: what was uploaded is published, and then all stands still
    before = fragile.committed()
    assert before < REQUESTS
    status, said = probe(port, "/readyz")
    assert (status, probe(port, "/livez")[0]) == (503, 200)
    assert "it waits" in said["reasons"][0]
    (store.restart if how == "killed" else store.resume)()
    seconds = until_progress(fragile, before, 30)

    check(fragile, asked)
    eventually(lambda: probe(port, "/readyz")[0] == 200, "the worker to be ready again")
    print(f"\nstore {how}: work went on {seconds:.1f} s after it was back")  # noqa: T201


@pytest.mark.parametrize("hard", [False, True])
def test_a_broker_that_restarts_costs_nothing(
    fragile: Mill, services: tuple[KafkaCluster, MinioServer], hard: bool
) -> None:
    kafka, _ = services
    asked = load(fragile)
    victim = kafka.brokers[0]
    kafka.kill(victim, hard=hard)
    before = fragile.committed()
    seconds = until_progress(fragile, before, 60) if before < REQUESTS else 0.0
    kafka.restart(victim)

    check(fragile, asked)
    print(f"\nbroker {'killed' if hard else 'stopped'}: progress after {seconds:.1f} s")  # noqa: T201
