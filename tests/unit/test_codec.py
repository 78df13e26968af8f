"""The three wire forms, whatever comes: told apart, evolved, and refused without a crash."""

import copy
import io
import itertools
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.codec import Codec, schema_of
from processor.errors import Code, RequestError, Undecodable
from processor.events import (
    AudioFormat,
    Emotion,
    Output,
    SpeechCompleted,
    SpeechRequest,
    Status,
    Subtitles,
    Timestamps,
)
from processor.registry import ConfluentRegistry
from schemas import AvroSchema

pytestmark = pytest.mark.unit

TOPIC = "speech.requests"
SINGLE = b"\xc3\x01"
REQUEST = SpeechRequest(
    request_id="r-1",
    tenant="acme",
    text="Hello, 世界. 😀",
    speed=1.25,
    emotion=Emotion(vector=[0, 0.125, 0.25, 0.5, 0.75, 1, 0, 0]),
    seed=2**63 - 1,
    output=Output(format=AudioFormat.OPUS, sample_rate=24000),
    deadline=datetime(2027, 1, 1, tzinfo=UTC),
    metadata={"page": "7"},
    created_at=datetime(2026, 1, 31, 12, 0, 0, 123000, tzinfo=UTC),
)
COMPLETION = SpeechCompleted(request_id="r-1", status=Status.COMPLETED, engine="hibari")


def registry() -> ConfluentRegistry:
    """An empty registry in memory, of the client that speaks to real ones."""
    return ConfluentRegistry(SchemaRegistryClient.new_client({"url": "mock://"}))


def decode(payload: bytes | None, **headers: str) -> SpeechRequest:
    """What a codec without a registry makes of ``payload``; ``_`` in a header's name is ``-``."""
    sent = {name.replace("_", "-"): value.encode("latin-1") for name, value in headers.items()}
    return Codec().decode(SpeechRequest, payload, sent)


def refusal(payload: bytes | None, **headers: str) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        decode(payload, **headers)
    return caught.value


def body(event: SpeechRequest) -> bytes:
    """The event's Avro binary, without a frame."""
    return Codec().encode(event, topic=TOPIC)[10:]


# --- the three forms ------------------------------------------------------------------------------


def test_without_a_registry_events_are_single_objects() -> None:
    payload = Codec().encode(REQUEST, topic=TOPIC)

    assert payload.startswith(SINGLE)
    assert decode(payload) == REQUEST


def test_with_a_registry_events_carry_their_schemas_number() -> None:
    codec = Codec(registry())
    payload = codec.encode(REQUEST, topic=TOPIC)

    assert payload[:5] == b"\x00\x00\x00\x00\x01"
    assert codec.decode(SpeechRequest, payload) == REQUEST


def test_the_registry_knows_the_schema_under_the_topics_value_subject() -> None:
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    Codec(ConfluentRegistry(client)).encode(REQUEST, topic=TOPIC)

    stored = client.get_latest_version("speech.requests-value").schema

    assert stored is not None and stored.schema_type == "AVRO"
    assert json.loads(stored.schema_str or "") == schema_of(SpeechRequest)


def test_json_is_read_and_written_for_scripts() -> None:
    assert decode(Codec.encode_json(REQUEST)) == REQUEST
    assert decode(b'{"request_id": "r-1", "text": "Hi."}').output.format is AudioFormat.WAV


def test_completions_take_all_three_forms_too() -> None:
    framed, bare = Codec(registry()), Codec()

    assert framed.decode(SpeechCompleted, framed.encode(COMPLETION, topic="c")) == COMPLETION
    assert bare.decode(SpeechCompleted, bare.encode(COMPLETION, topic="c")) == COMPLETION
    assert bare.decode(SpeechCompleted, Codec.encode_json(COMPLETION)) == COMPLETION


def test_a_codec_with_a_registry_reads_single_objects_and_json_as_well() -> None:
    codec = Codec(registry())

    assert codec.decode(SpeechRequest, Codec().encode(REQUEST, topic=TOPIC)) == REQUEST
    assert codec.decode(SpeechRequest, Codec.encode_json(REQUEST)) == REQUEST


printable = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)
to_the_millisecond = st.integers(0, 4_000_000_000_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
requests = st.builds(
    SpeechRequest,
    request_id=printable,
    tenant=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True),
    text=st.text(max_size=200),
    voice=st.none() | printable,
    speed=st.floats(0.25, 4),
    seed=st.none() | st.integers(0, 2**63 - 1),
    emotion=st.none()
    | st.builds(Emotion, vector=st.lists(st.floats(0, 1), min_size=8, max_size=8)),
    output=st.builds(
        Output,
        format=st.sampled_from(list(AudioFormat)[1:]),
        sample_rate=st.none() | st.integers(8000, 48000),
        timestamps=st.sampled_from(list(Timestamps)[1:]),
        subtitles=st.sampled_from(list(Subtitles)[1:]),
    ),
    deadline=st.none() | to_the_millisecond,
    index=st.none() | st.integers(0, 2**31 - 1),
    metadata=st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=50), max_size=5),
)


@settings(deadline=None)
@given(requests)
def test_every_request_survives_every_form(event: SpeechRequest) -> None:
    framed, bare = Codec(registry()), Codec()

    assert bare.decode(SpeechRequest, bare.encode(event, topic=TOPIC)) == event
    assert bare.decode(SpeechRequest, Codec.encode_json(event)) == event
    assert framed.decode(SpeechRequest, framed.encode(event, topic=TOPIC)) == event


# --- telling them apart ---------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [None, b""])
def test_a_record_without_a_value_is_told_what_to_send(payload: bytes | None) -> None:
    assert "no value; send an Avro or JSON event" in refusal(payload).message


@pytest.mark.parametrize(
    "payload", [b"[]", b'"text"', b"hello", b"\xc3\x02" + b"x" * 20, b"\xc3", b"\xc3\x01short"]
)
def test_other_first_bytes_are_none_of_the_three(payload: bytes) -> None:
    error = refusal(payload)

    assert error.code is Code.UNDECODABLE
    assert f"starts with 0x{payload[:2].hex()}" in error.message


@pytest.mark.parametrize("prefix", [b" ", b"\t\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
def test_json_may_follow_white_space_or_a_byte_order_mark(prefix: bytes) -> None:
    assert decode(prefix + Codec.encode_json(REQUEST)) == REQUEST


FORMS = {
    "json": Codec.encode_json(REQUEST),
    "single-object": Codec().encode(REQUEST, topic=TOPIC),
}


@pytest.mark.parametrize(
    ("stated", "form"),
    [
        ("application/json", "json"),
        ("Application/JSON; charset=utf-8", "json"),
        ("application/vnd.apache.avro+single", "single-object"),
        ("avro/binary", "single-object"),
        ("application/avro", "single-object"),
    ],
)
def test_a_content_type_that_agrees_is_accepted(stated: str, form: str) -> None:
    assert decode(FORMS[form], content_type=stated) == REQUEST


@pytest.mark.parametrize(
    ("stated", "form"),
    [
        ("application/json", "single-object"),
        ("application/vnd.apache.avro+single", "json"),
        ("avro/binary", "json"),
        ("application/vnd.confluent.avro", "single-object"),
    ],
)
def test_a_content_type_that_the_bytes_belie_is_refused(stated: str, form: str) -> None:
    error = refusal(FORMS[form], content_type=stated)

    assert error.message == f"the header says {stated}, the bytes are {form}: make them agree"


@pytest.mark.parametrize("stated", ["registry", "avro"])
def test_the_registrys_content_types_promise_its_form(stated: str) -> None:
    codec = Codec(registry())
    payload = codec.encode(REQUEST, topic=TOPIC)
    header = {"registry": b"application/vnd.confluent.avro", "avro": b"avro/binary"}[stated]

    assert codec.decode(SpeechRequest, payload, {"content-type": header}) == REQUEST


@pytest.mark.parametrize("stated", ["text/plain", "", "application/x-" + "y" * 10_000, "\xff"])
def test_an_unknown_content_type_is_refused_with_those_that_are_read(stated: str) -> None:
    error = refusal(FORMS["json"], content_type=stated)

    assert "is not read; use application/json" in error.message
    assert len(error.message) < 400


def test_the_name_of_the_header_may_be_in_capitals() -> None:
    with pytest.raises(Undecodable, match="text/plain"):
        Codec().decode(SpeechRequest, FORMS["json"], {"Content-Type": b"text/plain"})


# --- schemas that are not known -------------------------------------------------------------------


def test_an_unknown_fingerprint_is_named() -> None:
    error = refusal(SINGLE + bytes.fromhex("0123456789abcdef") + b"x")

    assert error.code is Code.UNKNOWN_SCHEMA
    assert "0123456789abcdef" in error.message


def test_an_unknown_number_is_named() -> None:
    with pytest.raises(Undecodable, match="no schema 66051") as caught:
        Codec(registry()).decode(SpeechRequest, b"\x00\x00\x01\x02\x03body")

    assert caught.value.code is Code.UNKNOWN_SCHEMA


def test_without_a_registry_its_form_names_the_setting() -> None:
    error = refusal(b"\x00\x00\x00\x00\x01body")

    assert error.code is Code.UNKNOWN_SCHEMA
    assert "set registry.url" in error.message


def test_half_a_registry_header_is_refused() -> None:
    with pytest.raises(Undecodable, match="five bytes"):
        Codec(registry()).decode(SpeechRequest, b"\x00\x00\x00")


def test_one_event_is_not_read_as_the_other() -> None:
    with pytest.raises(RequestError):
        decode(Codec().encode(COMPLETION, topic="c"))


RECORD: AvroSchema = {"type": "record", "name": "SpeechRequest", "namespace": "speechmill.v1"}
ID = {"name": "request_id", "type": "string"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        {"properties": {}},
        RECORD | {"fields": [ID, {"name": "x", "type": "speechmill.v1.Elsewhere"}]},
        RECORD | {"fields": [ID, {"name": "next", "type": ["null", "SpeechRequest"]}]},
        RECORD | {"fields": [ID, {"name": "x", "type": {"type": "array", "items": "null"}}]},
        RECORD
        | {
            "fields": [
                ID,
                {
                    "name": "x",
                    "type": {
                        "type": "array",
                        "items": {"type": "record", "name": "Empty", "fields": []},
                    },
                },
            ]
        },
    ],
    ids=[
        "JSON schema",
        "no type",
        "a reference to another subject",
        "a type within itself: deep bytes would overflow the stack",
        "items of no bytes: a few bytes would claim billions",
        "items of an empty record",
    ],
)
def test_a_registered_schema_that_cannot_be_read_with_is_refused(schema: AvroSchema) -> None:
    known = registry()
    number = known.register("speech.requests-value", schema)

    with pytest.raises(Undecodable, match=f"schema {number} ") as caught:
        Codec(known).decode(SpeechRequest, framed(number, b"\x02" * 50_000))

    assert caught.value.code is Code.UNKNOWN_SCHEMA


def framed(number: int, avro: bytes) -> bytes:
    return b"\x00" + number.to_bytes(4, "big") + avro


# --- fingerprints ---------------------------------------------------------------------------------


def crc64_avro(data: bytes) -> int:
    """Avro specification, "Schema Fingerprints", rewritten from its Java."""
    empty = 0xC15D213AA4D7A795
    table = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = (value >> 1) ^ (empty if value & 1 else 0)
        table.append(value)
    crc = empty
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc


def canonical(schema: Any, namespace: str = "") -> str:
    """Avro specification, "Parsing Canonical Form", for what our schemas use of it."""
    if isinstance(schema, str):
        return json.dumps(schema)
    if isinstance(schema, list):
        return f"[{','.join(canonical(branch, namespace) for branch in schema)}]"
    namespace = schema.get("namespace", namespace)
    kind = schema["type"]
    if kind == "array":
        return f'{{"type":"array","items":{canonical(schema["items"], namespace)}}}'
    if kind == "map":
        return f'{{"type":"map","values":{canonical(schema["values"], namespace)}}}'
    if kind not in ("record", "enum"):
        return json.dumps(kind)
    head = f'{{"name":"{namespace}.{schema["name"]}","type":"{kind}",'
    if kind == "enum":
        return head + f'"symbols":{json.dumps(schema["symbols"], separators=(",", ":"))}}}'
    inner = ",".join(
        f'{{"name":"{field["name"]}","type":{canonical(field["type"], namespace)}}}'
        for field in schema["fields"]
    )
    return head + f'"fields":[{inner}]}}'


def test_the_checks_own_fingerprint_is_the_specifications() -> None:
    # From Avro's own share/test/data/schema-tests.txt.
    assert crc64_avro(b'"null"') == 7195948357588979594
    assert crc64_avro(b'"int"') == 8247732601305521295


@pytest.mark.parametrize("event", [REQUEST, COMPLETION], ids=["request", "completion"])
def test_the_fingerprint_is_that_of_the_specification(event: Any) -> None:
    expected = crc64_avro(canonical(schema_of(type(event))).encode())

    assert Codec().encode(event, topic=TOPIC)[2:10] == expected.to_bytes(8, "little")


# --- evolution ------------------------------------------------------------------------------------


def changed(kind: type) -> AvroSchema:
    """A copy of the schema that a test may change."""
    return copy.deepcopy(schema_of(kind))


def field_of(schema: AvroSchema, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(field for field in schema["fields"] if field["name"] == name)
    return found


def previous() -> AvroSchema:
    """SpeechRequest as an earlier release might have had it: fewer fields, fewer formats."""
    schema = changed(SpeechRequest)
    schema["fields"] = [f for f in schema["fields"] if f["name"] not in ("lexicon", "emotion")]
    output = field_of(schema, "output")["type"]
    output["fields"] = [f for f in output["fields"] if f["name"] != "loudness_lufs"]
    field_of(output, "format")["type"]["symbols"].remove("opus")
    return schema


def following() -> AvroSchema:
    """SpeechRequest as a later release may have it: a field and a format more."""
    schema = changed(SpeechRequest)
    schema["fields"].insert(2, {"name": "style", "type": ["null", "string"], "default": None})
    output = field_of(schema, "output")["type"]
    field_of(output, "format")["type"]["symbols"].append("ogg")
    return schema


def written(schema: AvroSchema, known: ConfluentRegistry | None, **fields: Any) -> bytes:
    """What a producer of another release sends."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), {"request_id": "r-1"} | fields)
    if known is not None:
        return framed(known.register("speech.requests-value", schema), out.getvalue())
    return SINGLE + crc64_avro(canonical(schema).encode()).to_bytes(8, "little") + out.getvalue()


@pytest.fixture(params=["registry", "single-object"])
def known(request: pytest.FixtureRequest) -> ConfluentRegistry | None:
    """The registry, or None for single objects, whose reader has been given both schemas."""
    return registry() if request.param == "registry" else None


def reader(known: ConfluentRegistry | None) -> Codec:
    return Codec(known) if known else Codec(known=[previous(), following()])


def test_a_new_reader_fills_in_what_an_old_writer_does_not_have(
    known: ConfluentRegistry | None,
) -> None:
    payload = written(previous(), known, text="Hello.", speed=2.0, output={"format": "flac"})

    event = reader(known).decode(SpeechRequest, payload)

    assert event == SpeechRequest(
        request_id="r-1", text="Hello.", speed=2.0, output=Output(format=AudioFormat.FLAC)
    )


def test_an_old_reader_leaves_out_what_only_a_new_writer_has(
    known: ConfluentRegistry | None,
) -> None:
    payload = written(following(), known, text="Hello.", style="solemn")

    event = reader(known).decode(SpeechRequest, payload)

    assert event == SpeechRequest(request_id="r-1", text="Hello.")


def test_a_format_that_is_new_to_the_reader_is_refused_by_its_fields_name(
    known: ConfluentRegistry | None,
) -> None:
    payload = written(following(), known, text="Hello.", output={"format": "ogg"})

    fields = reader(known).fields(SpeechRequest, payload)
    assert fields["output"]["format"] == "unknown"
    with pytest.raises(RequestError) as caught:
        reader(known).decode(SpeechRequest, payload)

    assert caught.value.code is Code.INVALID_FIELD
    assert caught.value.field == "output.format"
    assert "'opus'" in caught.value.message


def test_a_status_that_is_new_to_a_reader_of_completions_is_unknown_and_no_error() -> None:
    later = changed(SpeechCompleted)
    field_of(later, "status")["type"]["symbols"].append("paused")
    known = registry()
    payload = written(later, known, status="paused")

    assert Codec(known).decode(SpeechCompleted, payload).status is Status.UNKNOWN


def test_a_reader_of_the_previous_release_reads_what_this_one_writes() -> None:
    read = fastavro.schemaless_reader(
        io.BytesIO(body(REQUEST)),
        fastavro.parse_schema(schema_of(SpeechRequest)),
        fastavro.parse_schema(previous()),
    )

    assert isinstance(read, dict)
    assert read["text"] == REQUEST.text
    assert read["output"]["format"] == "unknown", "opus is new to it"
    assert "emotion" not in read


def test_a_single_object_of_a_schema_that_was_not_given_is_refused() -> None:
    with pytest.raises(Undecodable) as caught:
        decode(written(following(), None, text="Hello."))

    assert caught.value.code is Code.UNKNOWN_SCHEMA


# --- whatever comes -------------------------------------------------------------------------------


def survives(payload: bytes, codec: Codec) -> None:
    """The bytes are an event or are refused; every other exception fails the test."""
    try:
        event = codec.decode(SpeechRequest, payload)
    except RequestError as error:
        assert error.message.encode(), "the reason must fit into a header"
        assert len(error.message) < 1000
    else:
        assert codec.decode(SpeechRequest, codec.encode(event, topic=TOPIC)).text == event.text


SOUND = Codec().encode(REQUEST, topic=TOPIC)
FRAMES = [b"", SOUND[:10], SOUND[:2], b"\x00\x00\x00\x00\x01", b"\x00", b"{", b"\xef\xbb\xbf{"]


def codec_with_everything() -> Codec:
    codec = Codec(registry())
    codec.encode(REQUEST, topic=TOPIC)  # registers schema 1
    return codec


EVERYTHING = codec_with_everything()


@settings(deadline=None)
@given(st.sampled_from(FRAMES), st.binary(max_size=300))
def test_any_bytes_are_an_event_or_refused(frame: bytes, noise: bytes) -> None:
    survives(frame + noise, EVERYTHING)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = [field["name"] for field in schema_of(SpeechRequest)["fields"]]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), anything, max_size=6))
def test_any_json_object_is_an_event_or_refused(sent: dict[str, Any]) -> None:
    survives(json.dumps({"request_id": "r-1", "text": "Hi."} | sent).encode(), EVERYTHING)


def test_a_truncated_event_is_refused() -> None:
    for length in range(len(SOUND)):
        with pytest.raises(Undecodable):
            EVERYTHING.decode(SpeechRequest, SOUND[:length])


def test_a_flipped_bit_makes_another_event_or_a_refusal() -> None:
    for place, bit in itertools.product(range(len(SOUND)), range(8)):
        flipped = bytearray(SOUND)
        flipped[place] ^= 1 << bit
        survives(bytes(flipped), EVERYTHING)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=20))
def test_bytes_behind_the_event_are_refused(more: bytes) -> None:
    assert f"{len(more)} bytes are left over" in refusal(SOUND + more).message


def zigzag(number: int) -> bytes:
    """An Avro long."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def peak_of_refusing(payload: bytes) -> int:
    """The most memory, in bytes, that it took to refuse ``payload``."""
    codec = Codec()
    tracemalloc.start()
    try:
        with pytest.raises(Undecodable):
            codec.decode(SpeechRequest, payload)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("claim", [2**60, 2**62, 2**40, 2**31, -1, -(2**62)])
def test_a_string_that_claims_to_be_huge_takes_no_memory(claim: int) -> None:
    assert peak_of_refusing(SOUND[:10] + zigzag(claim) + b"short") < 1_000_000


@pytest.mark.parametrize("claim", [2**60, -(2**60)])
def test_a_map_that_claims_to_be_huge_takes_no_memory(claim: int) -> None:
    at = body(REQUEST).index(b"\x02\x08page")  # a block of one entry, whose key has four bytes
    start = SOUND[:10] + body(REQUEST)[:at]

    assert peak_of_refusing(start + zigzag(claim) + b"\x08page\x027") < 1_000_000


def test_a_number_that_never_ends_is_refused() -> None:
    assert refusal(SOUND[:10] + b"\xff" * 1_000_000).code is Code.UNDECODABLE


@pytest.mark.parametrize(
    "payload",
    [b" " + b"[" * 100_000, b'{"a":' * 100_000, b'{"metadata":' + b"[" * 100_000],
    ids=["lists", "objects", "lists in an object"],
)
def test_json_that_is_too_deep_is_refused(payload: bytes) -> None:
    assert "not JSON" in refusal(payload).message


def test_a_number_of_ten_thousand_digits_is_refused() -> None:
    assert "not JSON" in refusal(b'{"seed":' + b"9" * 10_000 + b"}").message


@pytest.mark.parametrize(
    ("payload", "byte"), [(b'{"text": "caf\xe9"}', 13), (b'{"text": "\xed\xa0\x80"}', 10)]
)
def test_json_that_is_not_utf8_names_the_byte(payload: bytes, byte: int) -> None:
    assert refusal(payload).message == f"the JSON is not UTF-8 (byte {byte}); encode it as UTF-8"


@pytest.mark.parametrize("payload", [b" [1]", b' "text"', b" 5", b" null"])
def test_json_that_is_no_object_is_refused(payload: bytes) -> None:
    assert "the JSON is no object" in refusal(payload).message


def test_a_refusal_of_json_does_not_echo_it() -> None:
    assert "private" not in refusal(b'{"text": "private words').message
