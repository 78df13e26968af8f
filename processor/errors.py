"""What can go wrong, as a tree of types. Knows nothing of the rest of the project.

::

    SpeechmillError
    ├── SettingsError        a setting is wrong: the command ends before it starts
    ├── MissingExtra         an optional package is not installed
    ├── Unavailable          a service does not answer: work waits, nothing fails
    │   ├── BrokerUnavailable
    │   ├── RegistryUnavailable
    │   └── StoreUnavailable
    ├── StoreError           the store answered, and refused
    │   ├── ObjectMissing
    │   └── ObjectTooLarge
    ├── PublishError         a completion can't be written: the offset must not move
    ├── Fenced               another worker has our transactional id: this one must stop
    ├── Superseded           the group has moved on: this flush is not ours to publish any more
    └── RequestError         this one request can't be served: it becomes a failed completion
        └── Undecodable      not even a request: it can only become a dead letter
"""

from enum import StrEnum
from typing import Any

__all__ = [
    "BrokerUnavailable",
    "Code",
    "Fenced",
    "MissingExtra",
    "ObjectMissing",
    "ObjectTooLarge",
    "PublishError",
    "RegistryUnavailable",
    "RequestError",
    "SettingsError",
    "SpeechmillError",
    "Stage",
    "StoreError",
    "StoreUnavailable",
    "Superseded",
    "Unavailable",
    "Undecodable",
]


class Code(StrEnum):
    """Why a request failed: the ``error.code`` of its completion. Add to it; never rename."""

    UNDECODABLE = "UNDECODABLE"
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    INVALID_FIELD = "INVALID_FIELD"
    TEXT_EMPTY = "TEXT_EMPTY"
    TEXT_TOO_LONG = "TEXT_TOO_LONG"
    TEXT_UNAVAILABLE = "TEXT_UNAVAILABLE"
    UNSUPPORTED_TEXT = "UNSUPPORTED_TEXT"
    UNSUPPORTED_LANGUAGE = "UNSUPPORTED_LANGUAGE"
    UNSUPPORTED_PARAMETER = "UNSUPPORTED_PARAMETER"
    UNKNOWN_VOICE = "UNKNOWN_VOICE"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    DEADLINE_EXPIRED = "DEADLINE_EXPIRED"
    ENGINE_FAILED = "ENGINE_FAILED"
    WORKER_DIED = "WORKER_DIED"
    INTERNAL = "INTERNAL"


class Stage(StrEnum):
    """Where on its way a request failed: the ``error.stage`` of its completion."""

    DECODE = "decode"
    PREPARE = "prepare"
    SYNTHESIS = "synthesis"
    ENCODE = "encode"
    UPLOAD = "upload"


class SpeechmillError(Exception):
    """The root: catch it to catch all that this project raises on purpose."""


class SettingsError(SpeechmillError):
    """A setting is wrong. The message names it and says what is allowed."""


class MissingExtra(SpeechmillError):
    """An optional package is needed and absent. The message is the command that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed: pip install 'speechmill[{extra}]'")
        self.extra = extra


class Unavailable(SpeechmillError):
    """A service does not answer now and may answer later. Never a reason to fail a request."""


class BrokerUnavailable(Unavailable):
    """No Kafka broker answers."""


class RegistryUnavailable(Unavailable):
    """The Schema Registry does not answer."""


class StoreUnavailable(Unavailable):
    """The object store does not answer, or answers with a server's error."""


class StoreError(SpeechmillError):
    """The store answered and refused: wrong credentials, no such bucket, a bad key."""


class ObjectMissing(StoreError):
    """There is no object under that key."""


class ObjectTooLarge(StoreError):
    """The object is larger than the caller's bound; nothing of it was kept."""


class PublishError(SpeechmillError):
    """The broker will never take a message as it is (no such topic, no right, too large)."""


class Fenced(SpeechmillError):
    """Another worker publishes under our transactional id. The older of the two stops."""


class Superseded(SpeechmillError):
    """The consumer group has a newer generation than the one whose offsets were to be committed.

    Nothing was published. What is still ours is published with the next flush; the rest is for
    whoever has it now.
    """


class RequestError(SpeechmillError):
    """One request can't be served.

    ``message`` is for the one who sent the request: what is wrong and what to do. ``field`` is the
    path of the field at fault, where there is one. ``retryable`` says that the same request may
    succeed another time.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        stage: Stage,
        field: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.stage = stage
        self.field = field
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is pickled with its args alone, which ours can't be made from.
        return _restored, (type(self), self.args, dict(self.__dict__))


class Undecodable(RequestError):
    """The bytes are no event, so there is no request_id to answer to."""

    def __init__(self, message: str, code: Code = Code.UNDECODABLE) -> None:
        super().__init__(code, message, stage=Stage.DECODE)


def _restored(
    kind: type[RequestError], args: tuple[Any, ...], state: dict[str, Any]
) -> RequestError:
    """A RequestError that comes from another process."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error
