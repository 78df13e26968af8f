"""The store refuses, is slow, loses what is sent to it, and is away for long.

Workers reach the store through a proxy, the tests do not. Each test first proves that the fault
happened and that there was progress before. ``LONG`` in the environment makes them as long as they
are in life.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from processor.local.child import Child
from tests.faults.invariants import check
from tests.faults.test_kills import SMALL, text
from tests.faults.test_outages import until_progress
from tests.integration.conftest import real_parts
from tests.integration.mill import Mill
from tests.services.availability import kafka_unavailable, minio_unavailable, require
from tests.services.kafka import KafkaCluster
from tests.services.minio import MinioServer
from tests.services.store_proxy import NONE, StoreFaults, StoreProxy
from tests.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(900)]

LONG = "LONG" in os.environ
REQUESTS = 600 if LONG else 120
#: Seconds that an answer is late, and what the worker may wait for one: less, or more.
LATE_S, LESS, MORE = (10.0, "3", "15") if LONG else (4.0, "1.5", "8")


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[KafkaCluster, MinioServer]]:
    require(kafka_unavailable() or minio_unavailable())
    with KafkaCluster() as kafka, MinioServer() as store:
        yield kafka, store


@pytest.fixture
def proxy(services: tuple[KafkaCluster, MinioServer]) -> Iterator[StoreProxy]:
    with StoreProxy(services[1].endpoint) as made:
        yield made


@pytest.fixture
def mill(services: tuple[KafkaCluster, MinioServer], tmp_path: Path) -> Iterator[Mill]:
    kafka, store = services
    mill = Mill(
        real_parts(kafka, store),
        tmp_path,
    )
    yield mill
    mill.close()


def under_way(mill: Mill, proxy: StoreProxy, **environment: str) -> tuple[list[Child], list[str]]:
    """Two workers behind the proxy, in the middle of what was asked."""
    way = {"SPEECHMILL_STORE__ENDPOINT": f"http://{proxy.endpoint}", **SMALL, **environment}
    workers = [mill.start_process(name, **way) for name in ("one", "two")]
    for worker in workers:
        eventually(lambda: "partitions assigned" in worker.log.read_text(), "its share", 60)  # noqa: B023
    asked = ask(mill, 0, REQUESTS)
    eventually(lambda: mill.committed() > 0, "a beginning", 60)
    assert mill.committed() < REQUESTS, "there is work left for the fault to meet"
    return workers, asked


def ask(mill: Mill, first: int, count: int) -> list[str]:
    """Texts of these numbers, evenly over the partitions: work for both workers."""
    return [
        mill.ask(text(n), partition=n % mill.partitions).request_id
        for n in range(first, first + count)
    ]


def waits(mill: Mill, workers: list[Child]) -> int:
    """How often the workers have waited for the store."""
    return sum(
        line["event"] == "waiting for a service"
        for worker in workers
        for line in mill.log_of(worker)
    )


def check_all(mill: Mill, workers: list[Child], asked: list[str]) -> None:
    check(mill, asked, 240)
    for worker in workers:
        assert worker.returncode is None, worker.log.read_text()[-2000:]


def test_a_store_that_refuses_three_in_ten_costs_nothing(mill: Mill, proxy: StoreProxy) -> None:
    workers, asked = under_way(mill, proxy)
    proxy.faults = StoreFaults(unavailable=0.3)
    asked += ask(mill, len(asked), REQUESTS // 2)

    check_all(mill, workers, asked)

    met = proxy.counts
    assert min(met["refused"], met["disowned"]) > 10
    assert waits(mill, workers) > 0
    print(f"\n{dict(met)} in {len(asked)} requests; {waits(mill, workers)} waits")  # noqa: T201


def test_a_store_that_is_slower_than_the_time_out_stops_work_and_costs_nothing(
    mill: Mill, proxy: StoreProxy
) -> None:
    workers, asked = under_way(mill, proxy, SPEECHMILL_STORE__TIMEOUT_S=LESS)
    proxy.faults = StoreFaults(late_s=LATE_S)
    before = waits(mill, workers)
    # Two tries of one request at least; what was uploaded is published, and then all stands still.
    eventually(lambda: waits(mill, workers) >= before + 32, "workers to wait", 60)
    done = mill.committed()
    assert done < len(asked)
    assert proxy.counts["late"] > 16
    proxy.faults = NONE
    seconds = until_progress(mill, done, 30)

    check_all(mill, workers, asked)

    print(f"\n{dict(proxy.counts)}; work went on {seconds:.1f} s after it was fast again")  # noqa: T201


def test_a_store_that_is_slow_but_answers_in_time_is_waited_for(
    mill: Mill, proxy: StoreProxy
) -> None:
    # Three calls for each request: with more threads it is over in three times the delay.
    workers, asked = under_way(
        mill, proxy, SPEECHMILL_STORE__TIMEOUT_S=MORE, SPEECHMILL_WORKER__IO_THREADS="64"
    )
    proxy.faults = StoreFaults(late_s=LATE_S)
    done = mill.committed()
    began = time.monotonic()
    asked += ask(mill, len(asked), 64)
    eventually(lambda: proxy.counts["late"] > 64, "the fault to be met")
    eventually(lambda: mill.committed() >= done + 64, "progress while it is slow", 120)

    seconds = time.monotonic() - began
    assert waits(mill, workers) == 0, "no call was given up"
    proxy.faults = NONE  # the rest would only take its time

    check_all(mill, workers, asked)

    print(f"\n{dict(proxy.counts)}; 64 requests in {seconds:.1f} s while it was slow")  # noqa: T201


def test_puts_that_are_cut_in_the_middle_leave_no_half_object(
    mill: Mill, proxy: StoreProxy
) -> None:
    workers, asked = under_way(mill, proxy)
    proxy.faults = StoreFaults(truncated=0.3)
    asked += ask(mill, len(asked), REQUESTS // 2)

    check_all(mill, workers, asked)

    assert proxy.counts["truncated"] > 20
    assert waits(mill, workers) > 0
    print(f"\n{dict(proxy.counts)} in {len(asked)} requests; {waits(mill, workers)} waits")  # noqa: T201


@pytest.mark.skipif(not LONG, reason="takes two minutes, and test_outages has 8 s: set LONG=1")
def test_a_store_that_is_away_for_a_minute_costs_nothing(
    mill: Mill, proxy: StoreProxy, services: tuple[KafkaCluster, MinioServer]
) -> None:
    workers, asked = under_way(mill, proxy)
    services[1].kill()
    time.sleep(60)  # the outage itself: nothing is waited for
    done = mill.committed()
    assert done < len(asked)
    assert waits(mill, workers) > 0
    services[1].restart()
    seconds = until_progress(mill, done, 30)

    check_all(mill, workers, asked)

    print(f"\naway 60 s: {waits(mill, workers)} waits; work went on after {seconds:.1f} s")  # noqa: T201
