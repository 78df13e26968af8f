"""Exactly once: messages and offsets in one transaction.

Owns the transactional producer, and what each kind of error asks for:

- retriable: the same call again;
- abortable: abort, and the whole transaction again;
- the group has moved on: abort, and let the rebalance decide (``Superseded``);
- fenced: another worker has our ``transactional.id``, and the older one stops (``Fenced``);
- a commit or an abort that timed out, any other fatal error: nobody knows what became of it, so a
  new producer under the same id settles it, and the committed offsets say how it went. librdkafka
  has no KIP-890, and to go on with the old producer could tear the transaction (librdkafka 5423).

Used by the poll thread alone.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import structlog
import tenacity
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from processor.errors import BrokerUnavailable, Fenced, SettingsError, Superseded
from processor.job import Message
from processor.kafka import producer_config
from processor.ledger import Partition, Position
from processor.publisher import Committer, Refusals, enqueue
from processor.settings import KafkaSettings

__all__ = ["ExactlyOnce"]

_log = structlog.get_logger()

_STALE_GROUP = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError._ASSIGNMENT_LOST,
    }
)
_FENCED = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
)
_NEVER = frozenset(
    {
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.INVALID_TRANSACTION_TIMEOUT,
    }
)
#: How long one call waits for the broker, in seconds.
_CALL_S = 5.0
#: How late a request may arrive that we gave up; a fence after that is somebody else's.
_LATE_S = 60.0


class _Again(Exception):
    """The transaction came to nothing, or nobody knows: do it again."""


class ExactlyOnce:
    """Publishes a flush as one transaction under a ``transactional.id`` that is ours alone."""

    def __init__(
        self, settings: KafkaSettings, transactional_id: str, partitions: Mapping[str, int]
    ) -> None:
        """Takes over the id: an open transaction that a predecessor left under it is aborted.

        Raises BrokerUnavailable, or SettingsError if the broker has no transactions.
        """
        self._config = producer_config(settings, transactional_id) | {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": settings.transaction_timeout_ms,
            # Once no broker answers, librdkafka would begin anew from the bootstrap list, and then
            # wait for ever for a coordinator that it has forgotten (librdkafka 5456, 5511). We
            # replace the producer instead, and the new one begins there.
            "metadata.recovery.strategy": "none",
        }
        self._id = transactional_id
        self._timeout_s = settings.transaction_timeout_ms / 1000
        self._partitions = partitions
        # Until then a request for our id that we gave up may still be on its way.
        self._abandoned_until = -math.inf
        self._producer: Producer | None = self._connect()

    @property
    def owes(self) -> bool:
        return False  # offsets move with their messages or not at all

    def forget(self, partitions: Iterable[Partition]) -> None:
        """There is nothing to forget."""

    def publish(
        self,
        messages: Sequence[Message],
        offsets: Mapping[Partition, Position],
        committer: Committer,
        give_up: Callable[[], bool],
    ) -> None:
        flush = _Flush(list(messages), offsets, committer, give_up)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=2.0),
            stop=lambda _: give_up(),
        )
        try:
            retrying(self._attempt, flush)
        except tenacity.RetryError as error:
            raise BrokerUnavailable(
                "no transaction went through in time; the next owner does the rest again"
            ) from error

    def close(self) -> None:
        self._drop()

    def _attempt(self, flush: "_Flush") -> None:
        if self._producer is None:
            try:
                self._producer = self._connect()
                done = flush.committer.committed(list(flush.offsets))
            except BrokerUnavailable as error:
                raise _Again from error
            if all(done[place].offset >= moved.offset for place, moved in flush.offsets.items()):
                return  # the commit that had no answer went through, and with it the messages
        began = time.monotonic()
        refusals = Refusals()
        try:
            self._transact(self._producer, flush, refusals)
        except KafkaException as error:
            self._after(error.args[0], time.monotonic() - began)
            smaller = refusals.smaller()  # raises PublishError if something can never be sent
            if smaller:
                flush.replace(smaller)
            raise _Again from error

    def _transact(self, producer: Producer, flush: "_Flush", refusals: Refusals) -> None:
        producer.begin_transaction()
        for message in flush.messages:
            enqueue(producer, message, self._partitions, refusals, flush.give_up)
        by_topic = sorted(flush.offsets.items())
        moved = [
            (
                flush.committer.group_metadata(topic),
                [TopicPartition(*place, *position) for place, position in places],
            )
            for topic, places in groupby(by_topic, key=lambda item: item[0][0])
        ]
        if not refusals.empty:  # the client refused one itself, and would commit without it
            raise KafkaException(refusals.first)
        for group, places in moved:
            self._send_offsets(producer, places, group)
        _repeat(lambda: producer.commit_transaction(_CALL_S))

    def _send_offsets(self, producer: Producer, moved: list[TopicPartition], group: Any) -> None:
        """The one call whose time-out the client has been seen not to keep: from a thread that is
        left behind if it hangs, and then the producer is replaced."""
        result: Future[None] = Future()

        def call() -> None:
            try:
                _repeat(lambda: producer.send_offsets_to_transaction(moved, group, _CALL_S))
                result.set_result(None)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
                result.set_exception(error)

        threading.Thread(target=call, name="send-offsets", daemon=True).start()
        try:
            result.result(self._timeout_s + _CALL_S)
        except TimeoutError as error:
            hangs = KafkaError(KafkaError._TIMED_OUT, "the offsets were not taken in time")
            raise KafkaException(hangs) from error

    def _after(self, error: KafkaError, seconds: float) -> None:
        """Undo the transaction after ``error``; ``seconds`` is how long it was open."""
        _log.warning("transaction failed", reason=error.str(), code=error.name())
        if error.code() in _FENCED:
            self._drop(purge=False)
            # The broker also fences a transaction that was open for too long; and a request for the
            # id that we gave up ourselves fences the one after it, once, when it gets there.
            ours = time.monotonic() < self._abandoned_until
            self._abandoned_until = -math.inf
            if seconds < self._timeout_s and not ours:
                raise Fenced(
                    f"another worker has the transactional id {self._id}: "
                    "no two may have the same worker.name"
                )
            return
        timed_out = error.code() == KafkaError._TIMED_OUT
        if error.fatal() or timed_out or not self._abort():
            self._drop(purge=False)
        if error.code() in _STALE_GROUP:
            raise Superseded(f"the group has moved on: {error.str()}")

    def _abort(self) -> bool:
        """Whether the transaction is surely undone, and the producer can be used again."""
        producer = self._producer
        if producer is None:
            return False
        try:
            _repeat(lambda: producer.abort_transaction(_CALL_S))
        except KafkaException as error:
            _log.warning("abort failed; replacing the producer", reason=error.args[0].str())
            return False
        return True

    def _connect(self) -> Producer:
        producer = Producer(self._config)
        deadline = time.monotonic() + _CALL_S
        while True:
            try:
                producer.init_transactions(_CALL_S)
            except KafkaException as error:
                cause = error.args[0]
                if cause.code() in _NEVER:
                    raise SettingsError(
                        f"kafka: this broker can't do transactions ({cause.str()}); set "
                        "kafka.delivery to at_least_once, or use Apache Kafka"
                    ) from error
                if not cause.retriable() or time.monotonic() > deadline:
                    self._abandoned_until = time.monotonic() + _LATE_S
                    _log.warning("no transaction coordinator", reason=cause.str())
                    raise BrokerUnavailable(f"no transaction coordinator: {cause.str()}") from error
            else:
                return producer

    def _drop(self, *, purge: bool = True) -> None:
        producer, self._producer = self._producer, None
        if producer is not None and purge:
            producer.purge()
            producer.flush(0)


@dataclass(slots=True)
class _Flush:
    """What one transaction is to hold."""

    messages: list[Message]
    offsets: Mapping[Partition, Position]
    committer: Committer
    give_up: Callable[[], bool]

    def replace(self, smaller: Sequence[Message]) -> None:
        """Put each smaller form in the place of its message."""
        forms = {id(form): form for form in smaller}
        self.messages = [forms.get(id(m.smaller), m) for m in self.messages]


def _repeat(call: Callable[[], None]) -> None:
    """``call()``, again while it says that it can be repeated as it is. A time-out is not one of
    those: see above."""
    while True:
        try:
            call()
        except KafkaException as error:
            cause = error.args[0]
            if not cause.retriable() or cause.code() == KafkaError._TIMED_OUT:
                raise
        else:
            return
