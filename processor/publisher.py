"""Outcomes out: messages first, then the offsets that they stand for.

Owns the producer and the order of the two. A publisher is used by the poll thread alone, so no
rebalance can come between a message and its offset.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from processor.errors import BrokerUnavailable, PublishError
from processor.job import Message
from processor.kafka import producer_config
from processor.ledger import Partition, Position
from processor.settings import KafkaSettings

__all__ = ["AtLeastOnce", "Committer", "Publisher", "Refusals", "check", "enqueue"]

_log = structlog.get_logger()

#: How long one call of flush waits before it says that the broker is away, in seconds.
_PATIENCE_S = 2.0


class Committer(Protocol):
    """Whose offsets move: the source. Called on the poll thread."""

    def commit(self, offsets: Mapping[Partition, Position]) -> None:
        """Commit outside any transaction. Raises BrokerUnavailable."""
        ...

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, Position]:
        """The group's committed offsets, -1 where there is none. Raises BrokerUnavailable."""
        ...

    def group_metadata(self, topic: str) -> Any:
        """The membership that a transaction must prove to move offsets of ``topic``."""
        ...


class Publisher(Protocol):
    """The seam where delivery is promised."""

    def publish(
        self,
        messages: Sequence[Message],
        offsets: Mapping[Partition, Position],
        committer: Committer,
        give_up: Callable[[], bool],
    ) -> None:
        """Make ``messages`` visible and move the offsets; returns when both are safe.

        Messages of one lane and topic appear in their order; one that is too large for the broker
        is replaced by its ``smaller``. While the broker is away it waits,
        until ``give_up``, and then raises BrokerUnavailable. Raises PublishError if the broker will
        never take a message. In both cases nothing was committed, and the worker must stop.
        Raises Superseded if the group has moved on; Fenced if another worker took our place.
        """
        ...

    @property
    def owes(self) -> bool:
        """Whether offsets of what is published still have to be committed, with the next publish
        (of nothing, if there is nothing)."""
        ...

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These are no longer ours: owe them nothing."""
        ...

    def close(self) -> None:
        """Nothing is under way any more: let go of the broker."""
        ...


class AtLeastOnce:
    """Messages confirmed by all replicas, then the commit. A worker that dies in between, or loses
    its partitions, leaves messages that its successor writes again."""

    def __init__(
        self, settings: KafkaSettings, client_id: str, partitions: Mapping[str, int]
    ) -> None:
        """``partitions``: how many each topic has that is written to."""
        # No time-out of its own: to give a message up and produce it again would break the order.
        config = producer_config(settings, client_id) | {"message.timeout.ms": 0}
        self._producer = Producer(config)
        self._partitions = partitions
        self._owed: dict[Partition, Position] = {}

    @property
    def owes(self) -> bool:
        return bool(self._owed)

    def forget(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._owed.pop(partition, None)

    def publish(
        self,
        messages: Sequence[Message],
        offsets: Mapping[Partition, Position],
        committer: Committer,
        give_up: Callable[[], bool],
    ) -> None:
        waiting = list(messages)
        while waiting:
            refusals = Refusals()
            for message in waiting:
                enqueue(self._producer, message, self._partitions, refusals, give_up)
            while self._producer.flush(_PATIENCE_S):
                _log.warning("no broker confirms; waiting", messages=len(self._producer))
                check(give_up)
            waiting = refusals.smaller()
        self._owed.update(offsets)
        try:
            committer.commit(self._owed)
            self._owed.clear()
        except BrokerUnavailable as error:
            # Not lost, only not noted. If it can't be made good, whoever has the partitions next
            # does these once more.
            _log.warning("offsets not committed; trying again", reason=str(error))

    def close(self) -> None:
        self._producer.purge()
        self._producer.flush(_PATIENCE_S)


class Refusals:
    """What the broker did not take of a flush, and will not take as it is."""

    def __init__(self) -> None:
        self._found: list[tuple[Message, KafkaError]] = []

    @property
    def empty(self) -> bool:
        return not self._found

    @property
    def first(self) -> KafkaError:
        return self._found[0][1]

    def add(self, message: Message, error: KafkaError) -> None:
        self._found.append((message, error))

    def smaller(self) -> list[Message]:
        """What to send instead: nothing, if nothing was refused. Raises PublishError for a message
        that was refused for another reason than its size, or has no smaller form."""
        instead = []
        for message, error in self._found:
            if error.code() != KafkaError.MSG_SIZE_TOO_LARGE or message.smaller is None:
                raise PublishError(f"{message.topic} does not take a message: {error.str()}")
            _log.warning("too large for its topic; sent without its value", topic=message.topic)
            instead.append(message.smaller)
        return instead


def enqueue(
    producer: Producer,
    message: Message,
    partitions: Mapping[str, int],
    refusals: Refusals,
    give_up: Callable[[], bool],
) -> None:
    """Hand a message to the client; what becomes of it is told to ``refusals``, if it is bad."""

    def report(error: KafkaError | None, _: object) -> None:
        if error is not None and error.code() not in _OURS and not error.retriable():
            refusals.add(message, error)

    while True:
        try:
            producer.produce(
                message.topic,
                key=message.key,
                value=message.value,
                headers=list(message.headers),
                partition=message.lane % partitions[message.topic],
                on_delivery=report,
            )
        except BufferError:  # the client's queue is full: let it send
            producer.poll(0.1)
            check(give_up)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise
            refusals.add(message, error.args[0])
            return
        else:
            return


def check(give_up: Callable[[], bool]) -> None:
    """Raise BrokerUnavailable if there is no more time."""
    if give_up():
        raise BrokerUnavailable("no broker confirmed in time; the next owner does the rest again")


# What the client itself takes back: a purge when a transaction is aborted, a time-out, a fence.
_OURS = frozenset(
    {
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._FENCED,
        KafkaError._STATE,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    }
)
