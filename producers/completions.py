"""Completions as they appear: for one who waits, and for one who watches.

Owns what becomes of a record that is no completion. One reader is used by one thread.
"""

from collections.abc import Iterator

import structlog
from confluent_kafka import Message

from processor.codec import Codec
from processor.errors import RequestError
from processor.events import SpeechCompleted
from processor.kafka import headers_of
from processor.settings import KafkaSettings
from producers.reader import Since, TopicReader

__all__ = ["CompletionReader"]

_log = structlog.get_logger()


class CompletionReader:
    """Reads the completions topic from ``since`` on: its end, its beginning, or an instant.

    With ``end``, all that is published after the constructor returned is seen; a broker that
    states its end too low may show a few earlier ones as well.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        codec: Codec | None = None,
        *,
        since: Since = "end",
        timeout_s: float = 10.0,
    ) -> None:
        self._codec = codec or Codec()
        self._reader = TopicReader(settings, "completions", timeout_s=timeout_s)
        try:
            self._reader.start(since)
        except BaseException:
            self._reader.close()
            raise

    def read(self, timeout_s: float) -> list[SpeechCompleted]:
        """What has appeared; waits up to ``timeout_s`` for the first."""
        return [
            event for message in self._reader.read(timeout_s) for event in self._decoded(message)
        ]

    def close(self) -> None:
        self._reader.close()

    def _decoded(self, message: Message) -> Iterator[SpeechCompleted]:
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
