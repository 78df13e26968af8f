"""The network between workers and broker is cut and slowed within a transaction.

Workers reach the broker through a proxy, the tests do not. Each test first proves that the fault
happened and that there was progress. ``LONG`` in the environment adds steps of a transaction.
"""

import os
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
from tests.services.kafka_proxy import Api, Fault, Rule
from tests.services.minio import MinioServer
from tests.services.test_proxies import settled
from tests.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(900)]

LONG = pytest.mark.skipif("LONG" not in os.environ, reason="takes half a minute: set LONG=1")
#: Requests that wait for a fault: more than the workers can do before it shows in their logs.
REQUESTS = 120
#: Later than a worker waits: 5 s for a commit, and for offsets as long as librdkafka gives one
#: request of a transaction, which is the transaction's time-out (10 s) less 0.1 s.
LATE_S = 12.0


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[KafkaCluster, MinioServer]]:
    require(kafka_unavailable() or minio_unavailable())
    with KafkaCluster(proxied=True) as kafka, MinioServer() as store:
        yield kafka, store


@pytest.fixture
def kafka(services: tuple[KafkaCluster, MinioServer]) -> Iterator[KafkaCluster]:
    yield services[0]
    services[0].proxy.clear()


@pytest.fixture
def mill(
    kafka: KafkaCluster, services: tuple[KafkaCluster, MinioServer], tmp_path: Path
) -> Iterator[Mill]:
    store = services[1]
    mill = Mill(
        real_parts(kafka, store),
        tmp_path,
    )
    yield mill
    mill.close()


def under_way(mill: Mill, kafka: KafkaCluster) -> tuple[list[Child], list[str]]:
    """Two workers behind the proxy, in the middle of what was asked."""
    way = {"SPEECHMILL_KAFKA__BOOTSTRAP": kafka.proxied_bootstrap, **SMALL}
    workers = [mill.start_process(name, **way) for name in ("one", "two")]
    for worker in workers:
        eventually(lambda: "partitions assigned" in worker.log.read_text(), "its share", 60)  # noqa: B023
    asked = ask(mill, 0, REQUESTS)
    eventually(lambda: mill.committed() > 0, "a beginning", 60)
    return workers, asked


def ask(mill: Mill, first: int, count: int) -> list[str]:
    """Texts of these numbers, evenly over the partitions: work for both workers."""
    return [
        mill.ask(text(n), partition=n % mill.partitions).request_id
        for n in range(first, first + count)
    ]


def meet(mill: Mill, workers: list[Child], kafka: KafkaCluster, rule: Rule) -> None:
    """Let the rule apply until two transactions have failed of it."""
    before = [len(failures(mill, worker)) for worker in workers]
    done = mill.committed()
    kafka.proxy.add(rule)

    def failed() -> bool:
        return sum(len(failures(mill, worker)) for worker in workers) >= sum(before) + 2

    eventually(failed, f"transactions to fail of {rule.fault} at {rule.api.name}", 40)
    kafka.proxy.clear()
    assert rule.applied >= 2
    seconds = until_progress(mill, done, 40)
    codes = [failures(mill, w)[count:] for w, count in zip(workers, before, strict=True)]
    print(f"{rule.fault.value} of {rule.api.name}: {rule.applied} times; {codes}; ", end="")  # noqa: T201
    print(f"progress {seconds:.1f} s after it")  # noqa: T201


def failures(mill: Mill, worker: Child) -> list[str]:
    """Why this worker's transactions failed."""
    lines = [line for line in mill.log_of(worker) if line["event"] == "transaction failed"]
    return [str(line["code"]) for line in lines]


def check_settled(mill: Mill, kafka: KafkaCluster) -> None:
    """G: no transaction is open, neither on what was published nor on the group's offsets."""
    topics = {
        mill.settings.kafka.completions: mill.partitions,
        mill.settings.kafka.deadletters: mill.partitions,
        "__consumer_offsets": 4,
    }
    for topic, partitions in topics.items():
        eventually(lambda: settled(kafka, topic, partitions), f"{topic}'s transactions to end")  # noqa: B023


def check_all(mill: Mill, kafka: KafkaCluster, workers: list[Child], asked: list[str]) -> None:
    check(mill, asked, 180)
    check_settled(mill, kafka)
    for worker in workers:
        assert worker.returncode is None, worker.log.read_text()[-2000:]


def test_transactions_that_get_no_answer_are_settled(mill: Mill, kafka: KafkaCluster) -> None:
    print()  # noqa: T201
    workers, asked = under_way(mill, kafka)
    for api in (Api.END_TXN, Api.TXN_OFFSET_COMMIT):
        for fault in (Fault.LATE_ANSWER, Fault.CUT_ANSWER, Fault.CUT_REQUEST):
            # As much work for each fault to meet, however much the one before has left.
            asked += ask(mill, len(asked), max(0, mill.committed() + REQUESTS - len(asked)))
            meet(mill, workers, kafka, Rule(api, fault, seconds=LATE_S))

    check_all(mill, kafka, workers, asked)


def test_cuts_here_and_there_cost_nothing(mill: Mill, kafka: KafkaCluster) -> None:
    """Single ones, that librdkafka gets over by itself or not, at every step of a transaction."""
    workers, asked = under_way(mill, kafka)
    before = mill.committed()
    steps = (
        Api.PRODUCE, Api.ADD_PARTITIONS_TO_TXN, Api.ADD_OFFSETS_TO_TXN, Api.TXN_OFFSET_COMMIT,
        Api.END_TXN,
    )  # fmt: skip
    rules = [
        kafka.proxy.add(Rule(api, fault, every=every))
        for api in steps
        for fault, every in ((Fault.CUT_REQUEST, 7), (Fault.CUT_ANSWER, 9))
    ]
    asked += ask(mill, len(asked), REQUESTS)
    eventually(lambda: all(rule.applied for rule in rules), "every rule to have applied", 60)

    check_all(mill, kafka, workers, asked)

    cuts = sum(rule.applied for rule in rules)
    codes = [failures(mill, worker) for worker in workers]
    print(f"\n{cuts} cuts after {before} of {len(asked)} requests; {codes}")  # noqa: T201


@pytest.mark.parametrize(
    "api",
    [
        Api.END_TXN,
        pytest.param(Api.TXN_OFFSET_COMMIT, marks=LONG),
        pytest.param(Api.PRODUCE, marks=LONG),
    ],
    ids=lambda api: api.name,
)
def test_a_late_request_of_a_replaced_producer_does_nothing(
    mill: Mill, kafka: KafkaCluster, api: Api
) -> None:
    """The worker has given it up, and the broker meets it after the successor's."""
    print()  # noqa: T201
    workers, asked = under_way(mill, kafka)
    asked += ask(mill, len(asked), REQUESTS)
    rule = Rule(api, Fault.LATE_REQUEST, seconds=LATE_S)
    meet(mill, workers, kafka, rule)
    asked += ask(mill, len(asked), REQUESTS)
    eventually(lambda: rule.over == rule.applied, "the late ones to have come", 30)

    check_all(mill, kafka, workers, asked)


def test_a_worker_is_not_fenced_by_a_late_request_of_its_own(
    mill: Mill, kafka: KafkaCluster
) -> None:
    """To take over its own id it asked twice, and the broker heard of the first one last."""
    workers, asked = under_way(mill, kafka)
    asked += ask(mill, len(asked), REQUESTS)
    late = Rule(Api.INIT_PRODUCER_ID, Fault.LATE_REQUEST, seconds=7.0, times=1)
    kafka.proxy.add(late)
    kafka.proxy.add(Rule(Api.END_TXN, Fault.CUT_REQUEST))
    eventually(lambda: late.applied, "a worker to take over its own id", 40)
    kafka.proxy.clear()
    eventually(lambda: late.over, "the late one to have come")
    asked += ask(mill, len(asked), REQUESTS)

    check_all(mill, kafka, workers, asked)

    print([failures(mill, worker) for worker in workers])  # noqa: T201
