"""Records in: the two request topics, the urgent one first.

Owns a membership for each topic, in a group of its own. In one group, the topics' partitions would
be shared out by their number alone: of two workers, one could get all of the ordinary topic and the
other all of the urgent one. Everything here happens on the poll thread.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from processor.job import Record
from processor.ledger import Partition, Position
from processor.membership import Membership, RebalanceListener
from processor.settings import KafkaSettings

__all__ = ["KafkaSource"]

V = TypeVar("V")

#: How long one topic is waited for before the other is looked at, in seconds: the client can't wait
#: for both.
_TURN_S = 0.05


class KafkaSource:
    """Both memberships as one; ``listener`` hears of the rebalances of each."""

    def __init__(
        self, settings: KafkaSettings, client_id: str, listener: RebalanceListener
    ) -> None:
        self._urgent = Membership(settings, settings.priority, client_id, listener)
        self._ordinary = Membership(settings, settings.requests, client_id, listener)
        self._members = {settings.priority: self._urgent, settings.requests: self._ordinary}

    def poll(self, most: int, timeout_s: float) -> list[Record]:
        """Up to ``most`` records; may return with none before ``timeout_s`` is over."""
        urgent = self._urgent.poll(most, 0)
        left = most - len(urgent)
        if not left:
            return urgent
        return urgent + self._ordinary.poll(left, 0 if urgent else min(timeout_s, _TURN_S))

    def pause(self, partitions: Iterable[Partition]) -> None:
        for topic, ours in _by_topic(dict.fromkeys(partitions)).items():
            self._members[topic].pause(ours)

    def resume(self, partitions: Iterable[Partition]) -> None:
        for topic, ours in _by_topic(dict.fromkeys(partitions)).items():
            self._members[topic].resume(ours)

    def commit(self, offsets: Mapping[Partition, Position]) -> None:
        """Commit, and wait for the broker's word. Raises BrokerUnavailable if it was not given."""
        for topic, ours in _by_topic(offsets).items():
            self._members[topic].commit(ours)

    def commit_soon(self, offsets: Mapping[Partition, Position]) -> None:
        """Send a commit and don't wait for the broker's word; it may come to nothing."""
        for topic, ours in _by_topic(offsets).items():
            self._members[topic].commit_soon(ours)

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, Position]:
        """The groups' committed offsets, -1 where there is none. Waits for open transactions to
        end. Raises BrokerUnavailable."""
        found: dict[Partition, Position] = {}
        for topic, ours in _by_topic(dict.fromkeys(partitions)).items():
            found |= self._members[topic].committed(ours)
        return found

    def group_metadata(self, topic: str) -> Any:
        """Our membership as it is now, which a transaction must prove."""
        return self._members[topic].group_metadata()

    def close(self) -> None:
        """Leave both groups; the listener hears of the partitions first."""
        try:
            self._urgent.close()
        finally:
            self._ordinary.close()


def _by_topic(partitions: Mapping[Partition, V]) -> dict[str, dict[Partition, V]]:
    found: dict[str, dict[Partition, V]] = {}
    for partition, value in partitions.items():
        found.setdefault(partition[0], {})[partition] = value
    return found
