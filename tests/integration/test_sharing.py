"""Workers of one group share the partitions, and one that joins takes its share."""

from typing import Any

import pytest

from processor.local.child import Child
from tests.integration.mill import Mill
from tests.waiting import eventually


def partitions_of(mill: Mill, child: Child, topic: str) -> set[int]:
    """What a worker holds of a topic, by its own log."""
    held: set[int] = set()
    for line in mill.log_of(child):
        if line.get("topic") != topic:
            continue
        if line["event"] == "partitions assigned":
            held |= set(line["partitions"])
        elif line["event"] in ("partitions revoked", "partitions lost"):
            held -= set(line["partitions"])
    return held


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_two_workers_share_eight_partitions_and_a_third_takes_its_share(
    mill: Mill, protocol: str
) -> None:
    if protocol == "consumer" and mill.parts.kind == "embedded":
        pytest.skip("tansu does not answer KIP-848")
    how = {"SPEECHMILL_KAFKA__GROUP_PROTOCOL": protocol}
    first, second = mill.start_process("first", **how), mill.start_process("second", **how)

    def shared_by(*workers: Child) -> bool:
        """Each topic by itself: whoever has much of the one has no less of the other for it."""
        return all(
            shared_evenly([partitions_of(mill, worker, topic) for worker in workers])
            for topic in (mill.settings.kafka.requests, mill.settings.kafka.priority)
        )

    eventually(lambda: shared_by(first, second), "two workers to share eight partitions", 60)
    asked = [mill.ask(f"Round one, {n}.", partition=n % 8).request_id for n in range(80)]
    by_worker = count_by_worker(mill, 80)
    assert set(by_worker) == {"first", "second"}

    third = mill.start_process("third", **how)
    eventually(lambda: shared_by(first, second, third), "a third worker to get its share", 60)
    asked += [mill.ask(f"Round two, {n}.", partition=n % 8).request_id for n in range(80)]

    events = mill.completions(160)
    assert sorted(event.request_id for event in events) == sorted(asked)
    assert set(count_by_worker(mill, 160)) == {"first", "second", "third"}


def shared_evenly(held: list[set[int]]) -> bool:
    whole = set().union(*held) == set(range(8)) and sum(map(len, held)) == 8
    return whole and max(map(len, held)) - min(map(len, held)) <= 1


def count_by_worker(mill: Mill, count: int) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for event in mill.completions(count, 60):
        counts[event.worker] = counts.get(event.worker, 0) + 1
    return counts
