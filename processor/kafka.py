"""librdkafka's configuration, made from the settings in one place; and topics.

Owns every client option that is not a default, and why. Knows no message.
"""

import time
from collections.abc import Mapping
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from processor.errors import BrokerUnavailable, SettingsError
from processor.settings import KafkaSettings

__all__ = [
    "admin",
    "checked",
    "consumer_config",
    "create_topics",
    "group_of",
    "headers_of",
    "producer_config",
    "reader_config",
    "topic_names",
    "topic_partitions",
    "unreadable",
]

_log = structlog.get_logger()

#: Largest message that a client sends, in bytes. The broker's and the topic's own limits hold, and
#: count what is compressed: what came in as a small record may go out as a dead letter far larger.
_MAX_MESSAGE_BYTES = 200_000_000


#: How long a broker may hold an empty fetch. Kafka answers as soon as there is something; tansu
#: holds the fetch of each partition in turn.
_FETCH_WAIT_MS = 100


def _common(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        "client.id": client_id,
        "security.protocol": settings.security_protocol,
        # A broker that is away is tried again within a second, not after librdkafka's ten.
        "reconnect.backoff.max.ms": 1000,
        "error_cb": _on_error,
        "log_level": 4,
        # librdkafka writes to stderr by itself otherwise, between our lines.
        "logger": _LibraryLog(),
    }
    secret = settings.sasl_password
    optional = {
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": secret.get_secret_value() if secret else None,
        "ssl.ca.location": str(settings.ssl_ca) if settings.ssl_ca else None,
    }
    return config | {name: value for name, value in optional.items() if value is not None}


def producer_config(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """For a producer that neither loses nor reorders what it was given."""
    return _common(settings, client_id) | {
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": 5,
        "message.max.bytes": _MAX_MESSAGE_BYTES,
        "queue.buffering.max.kbytes": 65_536,
    }


def group_of(settings: KafkaSettings, topic: str) -> str:
    """The consumer group that shares a request topic: each topic has its own."""
    return f"{settings.group}.priority" if topic == settings.priority else settings.group


def consumer_config(settings: KafkaSettings, topic: str, client_id: str) -> dict[str, Any]:
    """For a member of the consumer group: commits by hand, takes partitions over gradually."""
    config = _common(settings, client_id) | {
        "group.id": group_of(settings, topic),
        "group.protocol": settings.group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": _FETCH_WAIT_MS,
        # What librdkafka fetches ahead is memory that the window does not count, and it is thrown
        # away each time that the window is full. A record that is larger comes all the same.
        "queued.max.messages.kbytes": 1024,
        "fetch.message.max.bytes": 65_536,
        "fetch.max.bytes": 1_000_000,
        # Also the most that one batch may grow to when it is decompressed.
        "receive.message.max.bytes": 16_000_000,
    }
    if settings.static_membership:
        config["group.instance.id"] = client_id
    if settings.group_protocol == "classic":  # with KIP-848 the broker decides both
        config["partition.assignment.strategy"] = "cooperative-sticky"
        config["session.timeout.ms"] = settings.session_timeout_ms
        config["heartbeat.interval.ms"] = min(3000, settings.session_timeout_ms // 3)
    return config


def reader_config(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """For one who reads a topic by itself: no group, nothing committed."""
    return _common(settings, client_id) | {
        "fetch.wait.max.ms": _FETCH_WAIT_MS,
        "group.id": client_id,  # librdkafka wants one even where partitions are assigned by hand
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
    }


def admin(settings: KafkaSettings) -> AdminClient:
    return AdminClient(_common(settings, "speechmill-admin"))


def topic_partitions(settings: KafkaSettings, timeout_s: float) -> dict[str, int]:
    """How many partitions each topic of the cluster has. Raises BrokerUnavailable."""
    try:
        cluster = admin(settings).list_topics(timeout=timeout_s)
    except KafkaException as error:
        raise BrokerUnavailable(
            f"kafka.bootstrap: no broker answers at {settings.bootstrap}; is it running? "
            "`speechmill doctor` says what is missing, `speechmill up` starts one for a try"
        ) from error
    return {
        name: len(topic.partitions) for name, topic in cluster.topics.items() if topic.error is None
    }


def topic_names(settings: KafkaSettings) -> list[str]:
    """The topics that are ours."""
    return [settings.requests, settings.priority, settings.completions, settings.deadletters]


def create_topics(settings: KafkaSettings, timeout_s: float) -> dict[str, bool]:
    """Make our topics. True for each that was made, False for each that was there.

    Raises BrokerUnavailable, or SettingsError if the broker refuses (replication, rights).
    """
    topic_partitions(settings, timeout_s)
    client = admin(settings)
    # A dead letter is the largest request with headers added: it must fit where the request did.
    larger = {"max.message.bytes": str(2 * 1_048_588)}
    futures = client.create_topics(
        [
            NewTopic(
                name,
                settings.partitions,
                settings.replication,
                config=larger if name == settings.deadletters else {},
            )
            for name in topic_names(settings)
        ]
    )
    made = {}
    for name, future in futures.items():
        try:
            future.result(timeout=timeout_s)
            made[name] = True
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise SettingsError(f"{name} can't be created: {error.args[0].str()}") from error
            made[name] = False
    return made


def checked(message: Message) -> Message | None:
    """``message``, or None if it only reports a passing condition.

    Raises SettingsError for what no waiting will mend, such as a topic that may not be read.
    """
    error = message.error()
    if error is None:
        return message
    if error.fatal() or error.code() in _HOPELESS:
        raise SettingsError(f"Kafka refuses: {error.str()}")
    _on_error(error)
    return None


def unreadable(message: Message) -> bool:
    """Whether the error is about these bytes: they will be no better the next time."""
    error, offset = message.error(), message.offset()
    return error is not None and error.code() in _BROKEN and offset is not None and offset >= 0


_BROKEN = frozenset({KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG})
_HOPELESS = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
    }
)


#: During an outage librdkafka reports each try; one line in so many seconds is enough.
_SAY_AGAIN_S = 10.0
_said: dict[str, float] = {}


def _on_error(error: KafkaError) -> None:
    # librdkafka goes on by itself; this is for the one who reads the log during an outage.
    now = time.monotonic()
    if now - _said.get(error.name(), -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
        _said[error.name()] = now
        _log.warning("kafka", reason=error.str(), code=error.name())


class _LibraryLog:
    """What librdkafka says, as debug lines of ours; it calls ``log(level, format, *args)``."""

    def log(self, _level: int, text: str, *args: object) -> None:
        _log.debug("librdkafka", text=text % args if args else text)


def headers_of(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    """A message's headers, in order, as bytes. Raises ValueError if a name is not UTF-8."""
    try:
        raw: Any = message.headers() or []
        pairs = raw.items() if isinstance(raw, Mapping) else raw
        return tuple((name, v.encode() if isinstance(v, str) else v) for name, v in pairs)
    except (SystemError, UnicodeDecodeError) as error:
        # confluent-kafka returns with the decoder's exception still set: it surfaces here or there.
        raise ValueError("the name of a header is not UTF-8") from error
