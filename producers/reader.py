"""A topic as one reads it who belongs to no group: every partition is seen, nothing is committed.

Owns the consumer, and the question of where a topic begins and ends. Knows no event. One reader is
used by one thread.
"""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import tenacity
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from processor.errors import BrokerUnavailable, SettingsError
from processor.kafka import checked, reader_config, topic_partitions
from processor.settings import KafkaSettings

__all__ = ["Since", "TopicReader"]

Since = Literal["end", "beginning"] | datetime

#: How long to look for records behind the end that the broker states, in seconds. Long enough for
#: an empty fetch, which proves the end; on a topic that never rests, enough is enough.
_END_S = 1.5
#: Silence before the end after which the broker counts as away, in seconds.
_SILENCE_S = 15.0


class TopicReader:
    """Follows a topic (``start``, then ``read``), or reads what it holds (``present``, ``at``).

    Each of these moves the one consumer: use one at a time. ``setting`` says which topic, by the
    setting that names it. ``fetch_wait_ms``: how long the broker may hold back an empty answer. One
    who follows for long spares it with much; one who wants to know the end is told it with little.
    Raises BrokerUnavailable, SettingsError if there is no such topic.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        setting: Literal["requests", "completions", "deadletters"],
        *,
        fetch_wait_ms: int = 500,
        timeout_s: float = 10.0,
    ) -> None:
        self.topic: str = getattr(settings, setting)
        self.partitions = topic_partitions(settings, timeout_s).get(self.topic, 0)
        if not self.partitions:
            raise SettingsError(
                f"kafka.{setting}: there is no topic {self.topic}; "
                "`speechmill topics create` makes it"
            )
        self._timeout_s = timeout_s
        self._ends: dict[int, int] | None = None
        self._consumer = Consumer(
            reader_config(settings, "speechmill-reader")
            | {"enable.partition.eof": True, "fetch.wait.max.ms": fetch_wait_ms}
        )

    def close(self) -> None:
        self._consumer.close()

    def start(self, since: Since) -> None:
        """Begin to follow: from the end, the beginning or an instant on.

        From the end, all that is published after this returned is seen; a broker that states its
        end too low may show a few earlier records as well. Raises BrokerUnavailable.
        """
        self._consumer.assign([self._place(*at) for at in self.starts(since).items()])

    def read(self, timeout_s: float) -> list[Message]:
        """What has appeared; waits up to ``timeout_s`` for the first."""
        found = (raw for raw in self._poll(timeout_s) if not _at_end(raw))
        return [message for raw in found if (message := checked(raw)) is not None]

    def starts(self, since: Since) -> dict[int, int]:
        """The offset in each partition where ``since`` begins. Raises BrokerUnavailable."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_passing),
            wait=tenacity.wait_fixed(0.1),
            stop=tenacity.stop_after_delay(self._timeout_s),
            reraise=True,
        )
        try:
            return retrying(self._ask, since)
        except KafkaException as error:
            raise BrokerUnavailable(f"{self.topic}: {error.args[0].str()}") from error

    def ends(self) -> dict[int, int]:
        """Where each partition ended when this was first asked: the offset behind its last record.

        The end that a broker states is not believed: the embedded one states it too low. Records
        behind it are counted until a fetch comes back empty. Raises BrokerUnavailable.
        """
        if self._ends is None:
            stated = self.starts("end")
            self._consumer.assign([self._place(*at) for at in stated.items()])
            found, unsure = dict(stated), set(stated)
            deadline = time.monotonic() + _END_S
            while unsure and (left := deadline - time.monotonic()) > 0:
                for raw in self._poll(left):
                    number = _number(raw)
                    if _at_end(raw):
                        unsure.discard(number)
                    elif checked(raw) is not None:
                        found[number] = max(found[number], _offset(raw) + 1)
            self._ends = found
        return self._ends

    def present(self, since: datetime | None = None) -> Iterator[Message]:
        """Every record from the beginning, or ``since``, up to ``ends``: always in the same order,
        one partition after the other.

        What is added meanwhile is left out, so that a topic that grows is read in finite time.
        Raises BrokerUnavailable, also if records stop coming before the end.
        """
        ends = self.ends()
        for number, offset in sorted(self.starts(since or "beginning").items()):
            if 0 <= offset < ends[number]:  # the broker says -1 of an instant behind the last one
                yield from self._between(number, offset, ends[number])

    def at(self, partition: int, offset: int) -> Message | None:
        """The record there, None if there is none before ``ends``. Raises BrokerUnavailable."""
        if not 0 <= offset < self.ends().get(partition, 0):
            return None
        return next(self._between(partition, offset, offset + 1), None)

    def _between(self, partition: int, start: int, end: int) -> Iterator[Message]:
        """The records from ``start`` to before ``end``, less those that are gone by now."""
        self._consumer.assign([self._place(partition, start)])
        while True:
            for raw in self._await():
                if _at_end(raw):  # the last offsets may be a transaction's marks
                    return
                if (message := checked(raw)) is not None:
                    if _offset(message) < end:
                        yield message
                    if _offset(message) + 1 >= end:
                        return

    def _ask(self, since: Since) -> dict[int, int]:
        places = [self._place(number) for number in range(self.partitions)]
        if isinstance(since, datetime):
            for place in places:
                place.offset = int(since.timestamp() * 1000)
            found = self._consumer.offsets_for_times(places, timeout=self._timeout_s)
            for place in found:
                if place.error is not None:
                    raise KafkaException(place.error)
            return {place.partition: place.offset for place in found}
        marks = {
            place.partition: self._consumer.get_watermark_offsets(place, timeout=self._timeout_s)
            for place in places
        }
        side = 0 if since == "beginning" else 1
        return {number: mark[side] for number, mark in marks.items()}

    def _poll(self, timeout_s: float) -> list[Message]:
        first = self._consumer.poll(timeout_s)
        return [] if first is None else [first, *self._consumer.consume(500, 0)]

    def _await(self) -> list[Message]:
        """What comes next, before the end. Raises BrokerUnavailable if nothing does."""
        if found := self._poll(_SILENCE_S):
            return found
        raise BrokerUnavailable(
            f"{self.topic}: no record came for {_SILENCE_S:g} s, and its end was not reached"
        )

    def _place(self, partition: int, offset: int = 0) -> TopicPartition:
        return TopicPartition(self.topic, partition, offset)


def _is_passing(error: BaseException) -> bool:
    """A leader is being elected, as of a topic that was made just now."""
    return isinstance(error, KafkaException) and error.args[0].code() in _ELECTING


_ELECTING = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})


def _at_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def _number(message: Message) -> int:
    return message.partition() or 0


def _offset(message: Message) -> int:
    return message.offset() or 0
