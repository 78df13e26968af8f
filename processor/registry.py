"""The Schema Registry, through confluent-kafka's client. Needs the extra ``registry``.

Owns the translation of its errors. Any server with Confluent's HTTP interface will do.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from processor.errors import (
    Code,
    MissingExtra,
    RegistryUnavailable,
    SettingsError,
    Undecodable,
)
from processor.settings import RegistrySettings
from schemas import AvroSchema

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.error import SchemaRegistryError

__all__ = ["ConfluentRegistry", "connect"]

#: For one answer; the client has no limit of its own, and would hold a thread for good.
_TIMEOUT_S = 10.0

#: Ids are Java's ints. A larger one is none, and servers answer it as they do a wrong path.
_MAX_ID = 2**31 - 1


def connect(settings: RegistrySettings) -> "ConfluentRegistry | None":
    """The registry that the settings name, None if they name none. Raises MissingExtra."""
    if settings.url is None:
        return None
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise MissingExtra("the Schema Registry client", "registry") from error
    config: dict[str, Any] = {"url": settings.url, "timeout": _TIMEOUT_S}
    if settings.username and settings.password:
        config["basic.auth.user.info"] = (
            f"{settings.username}:{settings.password.get_secret_value()}"
        )
    return ConfluentRegistry(SchemaRegistryClient(config))


class ConfluentRegistry:
    """Implements codec's Registry. The client caches what it has learnt, and may be shared."""

    def __init__(self, client: "SchemaRegistryClient") -> None:
        self._client = client

    def schema(self, schema_id: int) -> AvroSchema:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        if schema_id > _MAX_ID:
            raise _no_schema(schema_id)
        with _answering("Schema Registry"):
            try:
                text = self._client.get_schema(schema_id).schema_str
            except SchemaRegistryError as error:
                if not _unknown(error):
                    raise
                raise _no_schema(schema_id) from None
        try:
            schema = json.loads(text or "")
        except ValueError:
            schema = None
        if not isinstance(schema, dict):
            raise Undecodable(f"schema {schema_id} is no Avro record", Code.UNKNOWN_SCHEMA)
        return schema

    def ping(self) -> None:
        """Raise RegistryUnavailable if it does not answer."""
        with _answering("registry.url"):
            self._client.get_subjects()

    def register(self, subject: str, schema: AvroSchema) -> int:
        from confluent_kafka.schema_registry import Schema

        with _answering(f"Schema Registry: {subject}"):
            return self._client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))


def _no_schema(schema_id: int) -> Undecodable:
    return Undecodable(f"the Schema Registry has no schema {schema_id}", Code.UNKNOWN_SCHEMA)


def _unknown(error: "SchemaRegistryError") -> bool:
    """Whether the registry says that it lacks a schema: its codes 404xx, not a path's plain 404.

    A URL without the interface's path, or a proxy whose registry is away, answers 404 as well.
    """
    return error.http_status_code == 404 and error.error_code in range(40400, 40500)


#: Answers that no waiting will change: no credentials, no right, an incompatible or bad schema.
_REFUSALS = frozenset({401, 403, 409, 422})


@contextmanager
def _answering(what: str) -> Iterator[None]:
    """Turn what the client raises into SettingsError for a refusal, else RegistryUnavailable."""
    import httpx2  # the client's HTTP library, whose errors it lets through
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    try:
        yield
    except SchemaRegistryError as error:
        if error.http_status_code in _REFUSALS:
            raise SettingsError(f"{what} was refused: {error.error_message}") from error
        raise RegistryUnavailable(f"{what}: {error.error_message}") from error
    except (httpx2.HTTPError, OSError, ValueError) as error:  # ValueError: the answer is no JSON
        raise RegistryUnavailable(f"{what}: {error}") from error
