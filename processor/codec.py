"""Events to bytes and back: the three wire forms.

Owns the framing and Avro's schema resolution. Knows no field's meaning (events) and no topic's
name. One codec may be used by many threads.

============================ ======================================================================
first byte                   form
============================ ======================================================================
``00``                       Schema Registry: magic 0, schema id (4 bytes, big endian), Avro binary
``C3 01``                    Avro single-object: CRC-64-AVRO fingerprint (8 bytes, little endian),
                             Avro binary (Avro specification, "Single-object encoding")
``{`` or white space, BOM    a JSON object with the same fields, UTF-8
============================ ======================================================================

A ``content-type`` header, where there is one, must agree with the bytes.
"""

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

import schemas
from processor.checks import from_fields
from processor.errors import Code, Undecodable
from processor.events import E, SpeechCompleted, SpeechRequest, to_fields, to_json
from schemas import AvroSchema

__all__ = ["CONTENT_TYPES", "Codec", "Registry", "schema_of"]

_REGISTRY_MAGIC = b"\x00"
_SINGLE_OBJECT_MAGIC = b"\xc3\x01"
_JSON_STARTS = (b"{", b" ", b"\t", b"\r", b"\n", b"\xef\xbb\xbf")

#: The content types that are understood, and the form that each promises.
CONTENT_TYPES = {
    "application/json": "json",
    "application/vnd.confluent.avro": "registry",
    "application/vnd.apache.avro+single": "single-object",
    "avro/binary": "avro",
    "application/avro": "avro",
}

_SCHEMAS: dict[type, AvroSchema] = {
    SpeechRequest: schemas.load("speech_request"),
    SpeechCompleted: schemas.load("speech_completed"),
}


def schema_of(kind: type) -> AvroSchema:
    """The current schema of an event type."""
    return _SCHEMAS[kind]


class Registry(Protocol):
    """Where writer schemas are kept by number. Called from any thread; caches what it learnt."""

    def schema(self, schema_id: int) -> AvroSchema:
        """The schema with that id. Raises Undecodable if there is none, RegistryUnavailable."""
        ...

    def register(self, subject: str, schema: AvroSchema) -> int:
        """The id of ``schema`` under ``subject``, registered if it was not."""
        ...


class Codec:
    """Reads all three forms; writes the registry's where there is one, single-object otherwise.

    ``known`` are further writer schemas to read single-object bytes with: those of producers that
    are newer or older than this release.
    """

    def __init__(
        self, registry: Registry | None = None, *, known: Iterable[AvroSchema] = ()
    ) -> None:
        self._registry = registry
        self._parsed = {kind: fastavro.parse_schema(raw) for kind, raw in _SCHEMAS.items()}
        self._writers = {
            _fingerprint(raw): fastavro.parse_schema(raw) for raw in [*_SCHEMAS.values(), *known]
        }
        self._by_id: dict[int, Any] = {}
        self._prints = {kind: _fingerprint(raw) for kind, raw in _SCHEMAS.items()}

    def encode(self, event: SpeechRequest | SpeechCompleted, *, topic: str) -> bytes:
        """The event in the form that this codec writes. ``topic`` names the registry's subject."""
        kind = type(event)
        out = io.BytesIO()
        if self._registry is None:
            out.write(_SINGLE_OBJECT_MAGIC + self._prints[kind])
        else:
            schema_id = self._registry.register(f"{topic}-value", _SCHEMAS[kind])
            out.write(_REGISTRY_MAGIC + schema_id.to_bytes(4, "big"))
        fastavro.schemaless_writer(out, self._parsed[kind], to_fields(event))
        return out.getvalue()

    def ready(self, kind: type, topic: str) -> None:
        """Register the schema of ``topic`` now, so that a refusal ends a start and not a request.

        Raises SettingsError if the registry refuses, RegistryUnavailable.
        """
        if self._registry is not None:
            self._registry.register(f"{topic}-value", _SCHEMAS[kind])

    @staticmethod
    def encode_json(event: SpeechRequest | SpeechCompleted) -> bytes:
        """The event as JSON, for people and scripts."""
        return to_json(event)

    def decode(
        self, kind: type[E], payload: bytes | None, headers: Mapping[str, bytes] | None = None
    ) -> E:
        """The event in ``payload``, every field checked.

        Raises Undecodable if the bytes are none of the three forms, RequestError if a field is
        wrong, RegistryUnavailable.
        """
        return from_fields(kind, self.fields(kind, payload, headers))

    def fields(
        self, kind: type, payload: bytes | None, headers: Mapping[str, bytes] | None = None
    ) -> dict[str, Any]:
        """The event's fields, unchecked, resolved to the current schema. Raises as decode does."""
        if not payload:
            raise Undecodable("the record has no value; send an Avro or JSON event")
        form = _form(payload, headers or {})
        if form == "json":
            return _json_object(payload)
        if form == "registry":
            return self._read(kind, self._writer_by_id(payload), payload[5:])
        writer = self._writers.get(payload[2:10])
        if writer is None:
            raise Undecodable(
                f"unknown Avro schema, fingerprint {payload[2:10].hex()}; upgrade this reader, or "
                "use a Schema Registry",
                Code.UNKNOWN_SCHEMA,
            )
        return self._read(kind, writer, payload[10:])

    def _writer_by_id(self, payload: bytes) -> Any:
        if len(payload) < 5:
            raise Undecodable("five bytes of Schema Registry header were expected")
        if self._registry is None:
            raise Undecodable(
                "written with a Schema Registry, and none is set: set registry.url",
                Code.UNKNOWN_SCHEMA,
            )
        schema_id = int.from_bytes(payload[1:5], "big")
        if schema_id not in self._by_id:
            self._by_id[schema_id] = _usable(self._registry.schema(schema_id), schema_id)
        return self._by_id[schema_id]

    def _read(self, kind: type, writer: Any, body: bytes) -> dict[str, Any]:
        stream = io.BytesIO(body)
        try:
            fields = fastavro.schemaless_reader(stream, writer, self._parsed[kind])
        # fastavro raises what its parts raise: there is no one type for "these bytes are not it".
        except (
            fastavro.read.SchemaResolutionError,
            ArithmeticError,
            AssertionError,
            AttributeError,
            EOFError,
            LookupError,
            MemoryError,
            TypeError,
            ValueError,
        ) as error:
            name = _SCHEMAS[kind]["name"]
            raise Undecodable(
                f"these bytes are no {name} ({type(error).__name__}: {str(error)[:200]}); "
                "check the schema that the producer wrote with"
            ) from None
        if stream.tell() != len(body) or not isinstance(fields, dict):
            raise Undecodable(f"{len(body) - stream.tell()} bytes are left over after the event")
        return fields


def _fingerprint(schema: AvroSchema) -> bytes:
    """CRC-64-AVRO of the parsing canonical form, little endian, as the header wants it."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def _usable(schema: AvroSchema, schema_id: int) -> Any:
    """A registry's schema, parsed. Raises Undecodable (UNKNOWN_SCHEMA) if it can't be read with."""
    named: dict[str, Any] = {}
    try:
        parsed = fastavro.parse_schema(schema, named_schemas=named)
        _check_bounded(parsed, named, ())
    except (
        fastavro.schema.SchemaParseException,
        fastavro.schema.UnknownType,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise Undecodable(
            f"schema {schema_id} of the Schema Registry can't be used "
            f"({type(error).__name__}: {str(error)[:200]}); write with an Avro record schema",
            Code.UNKNOWN_SCHEMA,
        ) from None
    return parsed


def _check_bounded(schema: Any, named: Mapping[str, Any], inside: tuple[str, ...]) -> None:
    """Raise ValueError unless a record's size bounds what is read from it.

    fastavro reads a type within itself by C recursion, and a few kilobytes overflow the stack;
    items that take no bytes can be claimed by the billion.
    """
    if isinstance(schema, str):
        if schema in inside:
            raise ValueError(f"{schema} holds itself")
    elif isinstance(schema, list):
        for branch in schema:
            _check_bounded(branch, named, inside)
    elif schema["type"] in ("record", "error"):
        for field in schema["fields"]:
            _check_bounded(field["type"], named, (*inside, schema["name"]))
    elif schema["type"] in ("array", "map"):
        items = schema["items" if schema["type"] == "array" else "values"]
        if schema["type"] == "array" and _takes_no_bytes(items, named):
            raise ValueError("it has an array whose items take no bytes")
        _check_bounded(items, named, inside)


def _takes_no_bytes(schema: Any, named: Mapping[str, Any]) -> bool:
    if isinstance(schema, str):
        return _takes_no_bytes(named[schema], named) if schema in named else schema == "null"
    if isinstance(schema, list):
        return False
    if schema["type"] in ("record", "error"):
        return all(_takes_no_bytes(field["type"], named) for field in schema["fields"])
    return bool(schema["type"] == "null" or (schema["type"] == "fixed" and schema["size"] == 0))


def _form(payload: bytes, headers: Mapping[str, bytes]) -> str:
    if payload.startswith(_REGISTRY_MAGIC):
        form = "registry"
    elif payload.startswith(_SINGLE_OBJECT_MAGIC) and len(payload) >= 10:
        form = "single-object"
    elif payload.startswith(_JSON_STARTS):
        form = "json"
    else:
        raise Undecodable(
            f"the value starts with 0x{payload[:2].hex()}: neither the Schema Registry's form "
            "(00), Avro single-object (c301) nor a JSON object ({)"
        )
    stated = next((v for k, v in headers.items() if k.lower() == "content-type"), None)
    if stated is not None:
        name = stated.decode("latin-1").split(";")[0].strip().lower()
        promised = CONTENT_TYPES.get(name)
        if promised is None:
            raise Undecodable(
                f"content-type {name[:100]!r} is not read; use {', '.join(CONTENT_TYPES)}"
            )
        if promised != form and not (promised == "avro" and form != "json"):
            raise Undecodable(f"the header says {name}, the bytes are {form}: make them agree")
    return form


def _json_object(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Undecodable(
            f"the JSON is not UTF-8 (byte {error.start}); encode it as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Undecodable('the JSON is no object; send {"request_id": ..., "text": ...}')
    return value
