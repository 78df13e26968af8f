"""Completions as they appear: for one who waits, and for one who watches.

Owns a consumer outside all groups, which sees every partition and commits nothing. One reader is
used by one thread.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from processor.codec import Codec
from processor.errors import BrokerUnavailable, RequestError, SettingsError
from processor.events import SpeechCompleted
from processor.kafka import checked, headers_of, reader_config, topic_partitions
from processor.settings import KafkaSettings

__all__ = ["CompletionReader"]

_log = structlog.get_logger()


class CompletionReader:
    """Reads the completions topic from ``since`` on: its end, its beginning, or an instant.

    With ``end``, all that is published after the constructor returned is seen; a broker that
    reports its end too low may show a few earlier ones as well.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        codec: Codec | None = None,
        *,
        since: Literal["end", "beginning"] | datetime = "end",
        timeout_s: float = 10.0,
    ) -> None:
        topic = settings.completions
        count = topic_partitions(settings, timeout_s).get(topic, 0)
        if not count:
            raise SettingsError(
                f"kafka.completions: there is no topic {topic}; `speechmill topics create` makes it"
            )
        self._codec = codec or Codec()
        self._consumer = Consumer(reader_config(settings, "speechmill-reader"))
        try:
            places = [TopicPartition(topic, number) for number in range(count)]
            self._consumer.assign(self._starts(places, since, timeout_s))
        except KafkaException as error:
            self._consumer.close()
            raise BrokerUnavailable(f"{topic}: {error.args[0].str()}") from error

    def read(self, timeout_s: float) -> list[SpeechCompleted]:
        """What has appeared; waits up to ``timeout_s`` for the first."""
        first = self._consumer.poll(timeout_s)
        messages = [] if first is None else [first, *self._consumer.consume(500, 0)]
        return [event for message in messages for event in self._decoded(message)]

    def close(self) -> None:
        self._consumer.close()

    def _starts(
        self,
        places: list[TopicPartition],
        since: Literal["end", "beginning"] | datetime,
        timeout_s: float,
    ) -> list[TopicPartition]:
        if isinstance(since, datetime):
            for place in places:
                place.offset = int(since.timestamp() * 1000)
            return self._consumer.offsets_for_times(places, timeout=timeout_s)
        for place in places:
            low, high = self._consumer.get_watermark_offsets(place, timeout=timeout_s)
            place.offset = low if since == "beginning" else high
        return places

    def _decoded(self, raw: object) -> Iterator[SpeechCompleted]:
        message = checked(raw)  # type: ignore[arg-type]
        if message is None:
            return
        headers = {name: value for name, value in headers_of(message) if value is not None}
        value = message.value()
        try:
            yield self._codec.decode(
                SpeechCompleted, value.encode() if isinstance(value, str) else value, headers
            )
        except RequestError as error:
            _log.warning(
                "not a completion; skipped",
                partition=message.partition(),
                offset=message.offset(),
                reason=error.message,
            )
