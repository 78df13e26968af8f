"""How far behind we are: of our partitions, what is asked for and not answered.

Owns a thread and clients of its own: the consumer knows no end of a partition that is paused, and
the poll thread waits for nobody. In messages, and in seconds of audio: ten thousand greetings are
less work than a hundred chapters, and an autoscaler should know.
"""

import threading
from collections.abc import Callable, Iterable

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from processor.kafka import group_of, reader_config
from processor.ledger import Partition
from processor.settings import KafkaSettings

__all__ = ["Lag", "LagWatch"]

_log = structlog.get_logger()
_CALL_S = 10.0


class Lag:
    """The distance between the groups' committed offsets and the ends of the partitions.

    Through plain consumers that join no group: librdkafka's admin client has been seen to abort the
    whole process where an answer to the same question came too late. For one thread.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._clients = {
            topic: Consumer(
                reader_config(settings, "speechmill-lag") | {"group.id": group_of(settings, topic)}
            )
            for topic in (settings.requests, settings.priority)
        }

    def messages(self, partitions: Iterable[Partition]) -> int:
        """Records of ``partitions`` that are not committed. Raises KafkaException."""
        places: dict[str, list[TopicPartition]] = {}
        for topic, number in partitions:
            places.setdefault(topic, []).append(TopicPartition(topic, number))
        return sum(self._behind(self._clients[topic], ours) for topic, ours in places.items())

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    @staticmethod
    def _behind(client: Consumer, places: list[TopicPartition]) -> int:
        behind = 0
        for place in client.committed(places, timeout=_CALL_S):
            marks = client.get_watermark_offsets(place, timeout=_CALL_S, cached=False)
            if marks is not None:
                begin, end = marks
                behind += max(0, end - (begin if place.offset < 0 else place.offset))
        return behind


class LagWatch:
    """Measures every ``every_s`` seconds, and tells ``report``; from a thread of its own."""

    def __init__(
        self,
        settings: KafkaSettings,
        partitions: Callable[[], list[Partition]],
        report: Callable[[int], None],
        every_s: float,
    ) -> None:
        self._lag = Lag(settings)
        self._partitions = partitions
        self._report = report
        self._every_s = every_s
        self._over = threading.Event()
        threading.Thread(target=self._run, name="lag", daemon=True).start()

    def stop(self) -> None:
        """Measure no more; does not wait for a measurement under way."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                self._report(self._lag.messages(self._partitions()))
            except KafkaException as error:  # the last figure stands until a broker answers
                _log.debug("lag not measured", reason=error.args[0].str())
