"""Dead letters sent once more, each to the request topic that it came from.

Owns what a replay refuses, what it leaves out of a letter and adds to it, and when it counts.
"""

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from processor.errors import BrokerUnavailable, PublishError, SettingsError
from processor.job import Headers
from processor.kafka import producer_config, topic_partitions
from processor.settings import KafkaSettings
from producers.letters import REPLAYED, Letter

__all__ = ["Replay", "refusal", "replay_headers"]

#: How long the broker has to confirm a record, in seconds.
_CONFIRM_S = 30.0


def refusal(letter: Letter, settings: KafkaSettings) -> str | None:
    """Why ``letter`` can't be replayed to the topics of ``settings``; None if it can."""
    came_from = letter.reason.topic
    if came_from is None:
        return "no header says which topic it came from"
    if came_from not in (settings.requests, settings.priority):
        return (
            f"it came from {came_from}, and kafka.requests is {settings.requests}, kafka.priority "
            f"{settings.priority}"
        )
    if letter.omitted:
        return (
            "its value was too large for the dead-letter topic and was left out; the request was "
            f"{came_from} {letter.reason.partition}:{letter.reason.offset}"
        )
    return None


def replay_headers(letter: Letter) -> Headers:
    """The headers of the letter's next try: the original ones, and which try it is."""
    original = tuple(pair for pair in letter.headers if pair[0] != REPLAYED)
    return (*original, (REPLAYED, str(letter.replayed + 1).encode()))


class Replay:
    """Sends letters to their request topic once more. For one thread.

    ``replayed`` counts those that the broker has confirmed, ``failed`` those that it has not;
    ``complain`` hears why, from within the calls. Raises BrokerUnavailable, SettingsError if there
    is no request topic.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        complain: Callable[[Letter, str], None],
        *,
        timeout_s: float = 10.0,
    ) -> None:
        self.replayed = 0
        self.failed = 0
        self._settings = settings
        self._partitions = topic_partitions(settings, timeout_s)
        if not self._partitions.get(settings.requests):
            raise SettingsError(f"kafka.requests: there is no topic {settings.requests}")
        self._complain = complain
        self._away = False
        self._producer = Producer(
            producer_config(settings, "speechmill-replay")
            | {"message.timeout.ms": int(_CONFIRM_S * 1000)}
        )

    def send(self, letter: Letter) -> None:
        """Hand over one letter, for the partition that it came from, whose order it keeps.

        Raises PublishError if ``refusal`` has something against it, BrokerUnavailable once the
        broker has not confirmed in time: what was not handed over can be replayed later.
        """
        topic = letter.reason.topic
        if why := refusal(letter, self._settings):
            raise PublishError(f"{letter.place}: {why}")

        def report(error: KafkaError | None, _: object) -> None:
            if error is None:
                self.replayed += 1
            else:
                self._fail(letter, error)

        origin = letter.reason.partition
        known = origin is not None and 0 <= origin < self._partitions.get(str(topic), 0)
        where: dict[str, Any] = {"partition": origin} if known else {}
        while True:
            if self._away:
                raise BrokerUnavailable(f"the broker confirmed nothing for {_CONFIRM_S:g} s")
            try:
                self._producer.produce(
                    str(topic),
                    key=letter.key,
                    value=letter.value,
                    headers=list(replay_headers(letter)),
                    on_delivery=report,
                    **where,
                )
            except BufferError:  # the client's queue is full: let it send
                self._producer.poll(0.1)
            except KafkaException as error:
                self._fail(letter, error.args[0])
                return
            else:
                self._producer.poll(0)
                return

    def finish(self) -> None:
        """Return once every letter that was handed over is confirmed or has failed."""
        while self._producer.flush(_CONFIRM_S):
            pass  # each fails by itself when its time is up

    def _fail(self, letter: Letter, error: KafkaError) -> None:
        self.failed += 1
        self._away = self._away or error.code() == KafkaError._MSG_TIMED_OUT
        self._complain(letter, error.str())
