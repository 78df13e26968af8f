"""The Schema Registry, through confluent-kafka's client. Needs the extra ``registry``.

Owns the translation of its errors. Any server with Confluent's HTTP interface will do.
"""

import json
from typing import TYPE_CHECKING, Any

from processor.errors import Code, MissingExtra, RegistryUnavailable, Undecodable
from processor.settings import RegistrySettings
from schemas import AvroSchema

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

__all__ = ["ConfluentRegistry", "connect"]


def connect(settings: RegistrySettings) -> "ConfluentRegistry | None":
    """The registry that the settings name, None if they name none. Raises MissingExtra."""
    if settings.url is None:
        return None
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise MissingExtra("the Schema Registry client", "registry") from error
    config: dict[str, Any] = {"url": settings.url}
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

        try:
            text = self._client.get_schema(schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                raise Undecodable(
                    f"the Schema Registry has no schema {schema_id}", Code.UNKNOWN_SCHEMA
                ) from None
            raise RegistryUnavailable(f"Schema Registry: {error.error_message}") from error
        except OSError as error:
            raise RegistryUnavailable(f"Schema Registry: {error}") from error
        try:
            schema = json.loads(text or "")
        except ValueError:
            schema = None
        if not isinstance(schema, dict):
            raise Undecodable(f"schema {schema_id} is no Avro record", Code.UNKNOWN_SCHEMA)
        return schema

    def ping(self) -> None:
        """Raise RegistryUnavailable if it does not answer."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            self._client.get_subjects()
        except (SchemaRegistryError, OSError) as error:
            raise RegistryUnavailable(f"registry.url: {error}") from error

    def register(self, subject: str, schema: AvroSchema) -> int:
        from confluent_kafka.schema_registry import Schema
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return self._client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
        except (SchemaRegistryError, OSError) as error:
            raise RegistryUnavailable(f"Schema Registry: {subject}: {error}") from error
