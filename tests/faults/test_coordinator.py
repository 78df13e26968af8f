"""The very broker that the group hangs on, or its transactions, is killed: by name, not by luck."""

import time

import pytest
from confluent_kafka.admin import AdminClient

from tests.faults.invariants import check, witness_of
from tests.faults.test_kills import fed, moved, until_shared
from tests.faults.test_load import FAST
from tests.faults.test_outages import fragile, services
from tests.integration.mill import Mill
from tests.services.kafka import KafkaCluster
from tests.services.minio import MinioServer
from tests.waiting import eventually

__all__ = ["fragile", "services"]

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(900)]

PROGRESS_S = 30
WORKER = {**FAST, "SPEECHMILL_ENGINE__NAME": "simulated"}


def group_coordinator(mill: Mill) -> int:
    """The number of the broker that the group's members report to."""
    admin = AdminClient({"bootstrap.servers": mill.parts.bootstrap})
    (future,) = admin.describe_consumer_groups([mill.settings.kafka.group]).values()
    return int(future.result(30).coordinator.id)


def transaction_coordinator(mill: Mill) -> int:
    """The number of the broker that keeps the transactions of the worker ``one``: the leader of
    the partition of Kafka's own topic that its id falls on (``Utils.abs(id.hashCode())``)."""
    admin = AdminClient({"bootstrap.servers": mill.parts.bootstrap})
    partitions = (
        admin.list_topics("__transaction_state", timeout=30)
        .topics["__transaction_state"]
        .partitions
    )
    number = java_hash(f"{mill.settings.kafka.group}.one") % len(partitions)
    return int(partitions[number].leader)


def java_hash(text: str) -> int:
    """``String.hashCode`` without its sign, as Kafka takes it."""
    value = 0
    for char in text:
        value = (31 * value + ord(char)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF


COORDINATORS = {"group": group_coordinator, "transactions": transaction_coordinator}


@pytest.mark.parametrize("whose", COORDINATORS)
def test_a_coordinator_that_dies_costs_nothing(
    fragile: Mill, services: tuple[KafkaCluster, MinioServer], whose: str
) -> None:
    kafka, _ = services
    witness = witness_of(fragile)
    for name in ("one", "two"):
        fragile.start_process(name, **WORKER)
    with witness.watching() as watch, fed(fragile) as feed:
        ones = until_shared(witness, 2)["one"]
        eventually(lambda: witness.done() > 0, "a beginning", 60)
        victim = COORDINATORS[whose](fragile)
        kafka.kill(victim)
        began = time.monotonic()
        assert victim not in kafka.running
        before = witness.committed()  # the first answer after the fault
        assert sum(before.values()) < feed.count, "it was killed under load"
        eventually(lambda: moved(witness, before) & ones, "the work of one to go on", PROGRESS_S)
        seconds = time.monotonic() - began
        assert seconds < PROGRESS_S
        assert COORDINATORS[whose](fragile) != victim, "another does it"
        kafka.restart(victim)

    check(fragile, feed.all)
    assert watch.looks
    assert not watch.violations
    print(  # noqa: T201
        f"\ncoordinator of {whose} killed: work went on after {seconds:.1f} s; "
        f"{feed.count} requests"
    )
