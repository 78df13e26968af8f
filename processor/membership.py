"""Records in: membership of one consumer group, which shares one topic.

Owns a consumer: joining, polling, pausing, committing, leaving. Everything here happens on the
poll thread. Knows no work and no outcome.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from processor.errors import BrokerUnavailable
from processor.job import Record
from processor.kafka import checked, consumer_config, headers_of, unreadable
from processor.ledger import Partition, Position
from processor.settings import KafkaSettings

__all__ = ["Membership", "RebalanceListener"]

_log = structlog.get_logger()

#: How long one call waits for the broker, in seconds.
_CALL_S = 10.0


class RebalanceListener(Protocol):
    """Called from within ``poll`` and ``close``, on the thread that called them."""

    def assigned(self, partitions: list[Partition]) -> None:
        """These are ours from now on; records of them follow."""
        ...

    def revoked(self, partitions: list[Partition]) -> None:
        """These are ours until this returns: commit what is finished, drop the rest."""
        ...

    def lost(self, partitions: list[Partition]) -> None:
        """These are no longer ours: publish and commit nothing of them."""
        ...


class Membership:
    """A member of the consumer group of ``topic``."""

    def __init__(
        self, settings: KafkaSettings, topic: str, client_id: str, listener: RebalanceListener
    ) -> None:
        self._consumer = Consumer(consumer_config(settings, topic, client_id))
        self._listener = listener
        self._consumer.subscribe(
            [topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def poll(self, most: int, timeout_s: float) -> list[Record]:
        """Up to ``most`` records: blocks for the first one, takes along what has arrived with it.

        ``Consumer.consume`` starts its time-out anew at each message, so it is not asked to wait.
        """
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        rest = self._consumer.consume(most - 1, 0) if most > 1 else []
        return [record for message in (first, *rest) if (record := self._read(message)) is not None]

    def _read(self, message: Message) -> Record | None:
        if not unreadable(message):
            return None if checked(message) is None else _record(message)
        # The client would meet these bytes again and again. They become a dead letter with no
        # more than their place, and the partition goes on behind them.
        error = message.error()
        record = replace(_place(message), fault=error.str() if error else "unreadable")
        self._consumer.seek(TopicPartition(record.topic, record.partition, record.offset + 1))
        return record

    def pause(self, partitions: Iterable[Partition]) -> None:
        self._consumer.pause(_positions(dict.fromkeys(partitions)))

    def resume(self, partitions: Iterable[Partition]) -> None:
        self._consumer.resume(_positions(dict.fromkeys(partitions)))

    def commit(self, offsets: Mapping[Partition, Position]) -> None:
        """Commit, and wait for the broker's word. Raises BrokerUnavailable if it was not given."""
        try:
            places = self._consumer.commit(offsets=_positions(offsets), asynchronous=False)
        except KafkaException as error:
            raise BrokerUnavailable(f"the commit failed: {error.args[0].str()}") from error
        for place in places or ():
            if place.error is not None:
                raise BrokerUnavailable(f"the commit failed: {place.error.str()}")

    def commit_soon(self, offsets: Mapping[Partition, Position]) -> None:
        """Send a commit and don't wait for the broker's word; it may come to nothing."""
        try:
            self._consumer.commit(offsets=_positions(offsets), asynchronous=True)
        except KafkaException as error:
            _log.info("offsets not committed", reason=error.args[0].str())

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, Position]:
        """The group's committed offsets, -1 where there is none. Waits for open transactions to
        end. Raises BrokerUnavailable."""
        try:
            found = self._consumer.committed(_positions(dict.fromkeys(partitions)), timeout=_CALL_S)
        except KafkaException as error:
            raise BrokerUnavailable(f"committed offsets: {error.args[0].str()}") from error
        return {
            (place.topic, place.partition): Position(max(-1, place.offset), place.metadata or "")
            for place in found
        }

    def group_metadata(self) -> Any:
        """Our membership as it is now, which a transaction must prove."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Leave the group; the listener hears of the partitions first."""
        self._consumer.close()

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        _log.info("partitions assigned", **_named(partitions))
        self._listener.assigned(_keys(partitions))

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        _log.info("partitions revoked", **_named(partitions))
        self._listener.revoked(_keys(partitions))

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        _log.warning("partitions lost", **_named(partitions))
        self._listener.lost(_keys(partitions))


def _place(message: Message) -> Record:
    return Record(
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=None,
        value=None,
        headers=(),
        timestamp_ms=None,
    )


def _record(message: Message) -> Record:
    kind, timestamp = message.timestamp()
    record = replace(
        _place(message),
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        timestamp_ms=timestamp if kind else None,
    )
    try:
        return replace(record, headers=headers_of(message))
    except ValueError as error:
        return replace(record, fault=str(error))


def _bytes(raw: str | bytes | None) -> bytes | None:
    return raw.encode() if isinstance(raw, str) else raw


def _positions(offsets: Mapping[Partition, Position | None]) -> list[TopicPartition]:
    return [TopicPartition(*place, *(position or ())) for place, position in offsets.items()]


def _keys(partitions: list[TopicPartition]) -> list[Partition]:
    return [(p.topic, p.partition) for p in partitions]


def _named(partitions: list[TopicPartition]) -> dict[str, object]:
    """For the log; all are of one topic."""
    topic = partitions[0].topic if partitions else None
    return {"partitions": sorted(place.partition for place in partitions), "topic": topic}
