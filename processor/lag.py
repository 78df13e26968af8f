"""How far behind we are: of our partitions, what is asked for and not answered.

Owns a thread and an admin client of its own: the consumer knows no end of a partition that is
paused, and the poll thread waits for nobody. In messages, and in seconds of audio: ten thousand
greetings are less work than a hundred chapters, and an autoscaler should know.
"""

import threading
from collections.abc import Callable, Iterable

import structlog
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from processor.kafka import admin, group_of
from processor.ledger import Partition
from processor.settings import KafkaSettings

__all__ = ["Lag", "LagWatch"]

_log = structlog.get_logger()
_CALL_S = 10.0


class Lag:
    """The distance between the groups' committed offsets and the ends of the partitions."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin: AdminClient = admin(settings)

    def messages(self, partitions: Iterable[Partition]) -> int:
        """Records of ``partitions`` that are not committed. Raises KafkaException."""
        places: dict[str, list[TopicPartition]] = {}
        for topic, number in partitions:
            places.setdefault(topic, []).append(TopicPartition(topic, number))
        return sum(self._of_topic(topic, ours) for topic, ours in places.items())

    def _of_topic(self, topic: str, places: list[TopicPartition]) -> int:
        group = group_of(self._settings, topic)
        asked = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, places)], request_timeout=_CALL_S
        )
        committed = {
            (place.topic, place.partition): place.offset
            for place in asked[group].result().topic_partitions
        }
        latest, earliest = OffsetSpec.latest(), OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        ends = self._offsets(places, latest)
        fresh = [place for place in places if committed[place.topic, place.partition] < 0]
        begins = self._offsets(fresh, earliest) if fresh else {}
        return sum(
            max(0, end - begins.get(partition, committed[partition]))
            for partition, end in ends.items()
        )

    def _offsets(self, places: list[TopicPartition], spec: OffsetSpec) -> dict[Partition, int]:
        asked = self._admin.list_offsets(dict.fromkeys(places, spec), request_timeout=_CALL_S)
        return {
            (place.topic, place.partition): future.result().offset
            for place, future in asked.items()
        }


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
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                self._report(self._lag.messages(self._partitions()))
            except KafkaException as error:  # the last figure stands until a broker answers
                _log.debug("lag not measured", reason=error.args[0].str())
