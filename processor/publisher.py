"""Outcomes out: messages first, then the offsets that they stand for.

Owns the producer and the order of the two. A publisher is used by the poll thread alone, so no
rebalance can come between a message and its offset.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from processor.errors import BrokerUnavailable, PublishError
from processor.job import Message
from processor.kafka import producer_config
from processor.ledger import Partition
from processor.settings import KafkaSettings

__all__ = ["AtLeastOnce", "Committer", "Publisher"]

_log = structlog.get_logger()

#: How long one call of flush waits before it says that the broker is away, in seconds.
_PATIENCE_S = 2.0


_Report = Callable[[KafkaError | None, object], None]


class Committer(Protocol):
    """Whose offsets move: the source."""

    def commit(self, offsets: Mapping[Partition, int]) -> None: ...


class Publisher(Protocol):
    """The seam where delivery is promised."""

    def publish(
        self,
        messages: Sequence[Message],
        offsets: Mapping[Partition, int],
        committer: Committer,
        give_up: Callable[[], bool],
    ) -> None:
        """Make ``messages`` visible and move the offsets; returns when both are safe.

        Messages of one lane and topic appear in their order. While the broker is away it waits,
        until ``give_up``, and then raises BrokerUnavailable. Raises PublishError if the broker will
        never take a message. In both cases nothing was committed, and the worker must stop.
        """
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

    def publish(
        self,
        messages: Sequence[Message],
        offsets: Mapping[Partition, int],
        committer: Committer,
        give_up: Callable[[], bool],
    ) -> None:
        refused: list[tuple[Message, KafkaError]] = []
        for message in messages:

            def report(error: KafkaError | None, _: object, message: Message = message) -> None:
                if error is not None:
                    refused.append((message, error))

            self._enqueue(message, report, give_up)
        while self._producer.flush(_PATIENCE_S):
            _log.warning("no broker confirms; waiting", messages=len(self._producer))
            _check(give_up)
        if refused:
            message, error = refused[0]
            raise PublishError(f"{message.topic} does not take a message: {error.str()}")
        try:
            committer.commit(offsets)
        except BrokerUnavailable as error:
            # Not lost, only not noted: whoever has the partitions next does these once more.
            _log.warning("offsets not committed; some requests may be answered twice", reason=error)

    def close(self) -> None:
        self._producer.purge()
        self._producer.flush(_PATIENCE_S)

    def _enqueue(self, message: Message, report: _Report, give_up: Callable[[], bool]) -> None:
        count = self._partitions[message.topic]
        while True:
            try:
                self._producer.produce(
                    message.topic,
                    key=message.key,
                    value=message.value,
                    headers=list(message.headers),
                    partition=message.lane % count,
                    on_delivery=report,
                )
            except BufferError:  # the client's queue is full: let it send
                self._producer.poll(0.1)
                _check(give_up)
            except KafkaException as error:
                raise PublishError(
                    f"{message.topic} does not take a message: {error.args[0].str()}"
                ) from error
            else:
                return


def _check(give_up: Callable[[], bool]) -> None:
    if give_up():
        raise BrokerUnavailable("no broker confirmed in time; the next owner does the rest again")
