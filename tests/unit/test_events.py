"""What a request may hold, what a refusal says, and that the dataclasses are the Avro schemas."""

import json
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from processor.checks import from_fields
from processor.codec import schema_of
from processor.errors import Code, RequestError, Stage
from processor.events import (
    Audio,
    AudioFormat,
    Emotion,
    Failure,
    Output,
    Quality,
    SegmentMark,
    Sidecar,
    Source,
    SpeechCompleted,
    SpeechRequest,
    Status,
    Subtitles,
    Timestamps,
    Timings,
    Usage,
    to_fields,
    to_json,
)

pytestmark = pytest.mark.unit

#: Stands for what must never come back in a message.
PRIVATE = "the-private-words-of-a-patient"


def request(**changes: Any) -> SpeechRequest:
    return from_fields(SpeechRequest, {"request_id": "r-1", "text": "Hello."} | changes)


def refusal(**changes: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        request(**changes)
    return caught.value


def _too_many(count: int) -> dict[str, str]:
    return {f"key-{number}": "value" for number in range(count)}


#: What is sent instead, the field that is named, and a part of the remedy.
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "an empty id": ({"request_id": ""}, "request_id", "at least 1"),
    "a long id": ({"request_id": "x" * 201}, "request_id", "at most 200"),
    "an id with a line end": ({"request_id": "a\nb"}, "request_id", "printable characters"),
    "an id that ends in one": ({"request_id": "a\n"}, "request_id", "printable characters"),
    "an id that is a number": ({"request_id": 7}, "request_id", "must be a string"),
    "an id that is null": ({"request_id": None}, "request_id", "must be a string"),
    "a tenant in capitals": ({"tenant": "Acme"}, "tenant", "a-z, 0-9, '-' and '_'"),
    "a tenant that climbs": ({"tenant": "../other"}, "tenant", "a-z, 0-9, '-' and '_'"),
    "a tenant with a slash": ({"tenant": "a/b"}, "tenant", "a-z, 0-9, '-' and '_'"),
    "a tenant that ends a line": ({"tenant": "acme\n"}, "tenant", "a-z, 0-9, '-' and '_'"),
    "an empty tenant": ({"tenant": ""}, "tenant", "a-z, 0-9, '-' and '_'"),
    "a long tenant": ({"tenant": "a" * 64}, "tenant", "at most 63"),
    "a text that is a number": ({"text": 5}, "text", "must be a string"),
    "a text with half a character": ({"text": f"{PRIVATE} \ud800"}, "text", "surrogate"),
    "a text_uri of another scheme": (
        {"text": None, "text_uri": f"https://h/{PRIVATE}"},
        "text_uri",
        "s3://bucket/key",
    ),
    "a text_uri without a key": ({"text": None, "text_uri": "s3://bucket/"}, "text_uri", "key"),
    "a long text_uri": ({"text": None, "text_uri": "s3://abc/" + "k" * 1200}, "text_uri", "1200"),
    "a language that is none": ({"language": "English, please"}, "language", "BCP 47"),
    "an empty voice": ({"voice": ""}, "voice", "at least 1"),
    "a long voice": ({"voice": "v" * 201}, "voice", "at most 200"),
    "an empty model": ({"model": ""}, "model", "at least 1"),
    "an empty lexicon": ({"lexicon": ""}, "lexicon", "at least 1"),
    "a speed too slow": ({"speed": 0.2}, "speed", "at least 0.25"),
    "a speed too fast": ({"speed": 4.5}, "speed", "at most 4"),
    "a speed that is not a number": ({"speed": float("nan")}, "speed", "not a finite number"),
    "an endless speed": ({"speed": float("inf")}, "speed", "not a finite number"),
    "an endless speed backwards": ({"speed": float("-inf")}, "speed", "not a finite number"),
    "a speed in words": ({"speed": PRIVATE}, "speed", "not a number"),
    "a speed that is null": ({"speed": None}, "speed", "not a number"),
    "a negative seed": ({"seed": -1}, "seed", "at least 0"),
    "a seed of 64 bits": ({"seed": 2**63}, "seed", "less than 9223372036854775808"),
    "a broken seed": ({"seed": 1.5}, "seed", "not a whole number"),
    "a seed beyond all bounds": ({"seed": 1e300}, "seed", "not a whole number"),
    "a seed in words": ({"seed": PRIVATE}, "seed", "not a whole number"),
    "a negative index": ({"index": -1}, "index", "at least 0"),
    "an index of 32 bits": ({"index": 2**31}, "index", "less than 2147483648"),
    "an index that is a list": ({"index": [PRIVATE]}, "index", "not a whole number"),
    "an empty job_id": ({"job_id": ""}, "job_id", "at least 1"),
    "a long document_id": ({"document_id": "d" * 201}, "document_id", "at most 200"),
    "a deadline without a zone": ({"deadline": "2026-01-31T12:00:00"}, "deadline", "time zone"),
    "a deadline that is a day": ({"deadline": "2026-01-31"}, "deadline", "time zone"),
    "a deadline in words": ({"deadline": PRIVATE}, "deadline", "2026-01-31T12:00:00Z"),
    "a deadline that is a list": ({"deadline": [PRIVATE]}, "deadline", "2026-01-31T12:00:00Z"),
    "a deadline after all days": ({"deadline": 1e300}, "deadline", "2026-01-31T12:00:00Z"),
    "a birth without a zone": ({"created_at": "2026-01-31T12:00:00"}, "created_at", "time zone"),
    "an emotion that is a word": ({"emotion": PRIVATE}, "emotion", "object"),
    "an emotion in two ways": (
        {"emotion": {"preset": "sad", "text": PRIVATE}},
        "emotion",
        "preset and text are both given: keep one",
    ),
    "an empty preset": ({"emotion": {"preset": ""}}, "emotion.preset", "at least 1"),
    "a vector of seven": ({"emotion": {"vector": [0] * 7}}, "emotion.vector", "at least 8"),
    "a vector of nine": ({"emotion": {"vector": [0] * 9}}, "emotion.vector", "at most 8"),
    "a vector that is an object": ({"emotion": {"vector": {"joy": 1}}}, "emotion.vector", "a list"),
    "a weight over one": ({"emotion": {"vector": [0] * 7 + [1.1]}}, "emotion.vector.7", "at most"),
    "a weight that is no number": (
        {"emotion": {"vector": [float("nan")] + [0] * 7}},
        "emotion.vector.0",
        "not a finite number",
    ),
    "a long emotion": ({"emotion": {"text": "x" * 501}}, "emotion.text", "at most 500"),
    "a reference elsewhere": (
        {"emotion": {"reference_uri": PRIVATE}},
        "emotion.reference_uri",
        "s3://bucket/key",
    ),
    "a strength over one": ({"emotion": {"strength": 1.5}}, "emotion.strength", "at most 1"),
    "an output that is a word": ({"output": PRIVATE}, "output", "object"),
    "an output that is null": ({"output": None}, "output", "object"),
    "an unknown format": ({"output": {"format": PRIVATE}}, "output.format", "'wav', 'flac'"),
    "the format unknown": ({"output": {"format": "unknown"}}, "output.format", "'wav', 'flac'"),
    "unknown timestamps": (
        {"output": {"timestamps": "phoneme"}},
        "output.timestamps",
        "'none', 'sentence'",
    ),
    "the timestamps unknown": (
        {"output": {"timestamps": "unknown"}},
        "output.timestamps",
        "'none', 'sentence', 'word'",
    ),
    "unknown subtitles": ({"output": {"subtitles": "ass"}}, "output.subtitles", "'srt'"),
    "the subtitles unknown": ({"output": {"subtitles": "unknown"}}, "output.subtitles", "'vtt'"),
    "a low rate": ({"output": {"sample_rate": 7999}}, "output.sample_rate", "at least 8000"),
    "a high rate": ({"output": {"sample_rate": 48001}}, "output.sample_rate", "at most 48000"),
    "no channel": ({"output": {"channels": 0}}, "output.channels", "at least 1"),
    "three channels": ({"output": {"channels": 3}}, "output.channels", "at most 2"),
    "a low bitrate": ({"output": {"bitrate": 5999}}, "output.bitrate", "at least 6000"),
    "a high bitrate": ({"output": {"bitrate": 512_001}}, "output.bitrate", "at most 512000"),
    "a loudness over zero": ({"output": {"loudness_lufs": 1}}, "output.loudness_lufs", "at most 0"),
    "a loudness that is no number": (
        {"output": {"loudness_lufs": float("nan")}},
        "output.loudness_lufs",
        "not a finite number",
    ),
    "metadata that is a list": ({"metadata": [PRIVATE]}, "metadata", "object"),
    "metadata of a number": ({"metadata": {"page": 5}}, "metadata.page", "must be a string"),
    "too much metadata": ({"metadata": _too_many(65)}, "metadata", "at most 64"),
    "a long value": ({"metadata": {"k": PRIVATE * 100}}, "metadata.k", "at most 2000"),
    "an empty key": ({"metadata": {"": PRIVATE}}, "metadata", "at least 1"),
    "a long key": ({"metadata": {"k" * 129: PRIVATE}}, "metadata", "at most 128"),
}


@pytest.mark.parametrize(("sent", "field", "remedy"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_field_and_the_remedy_and_not_what_was_sent(
    sent: dict[str, Any], field: str, remedy: str
) -> None:
    error = refusal(**sent)

    assert (error.code, error.stage) == (Code.INVALID_FIELD, Stage.DECODE)
    assert error.field == field
    assert error.message.startswith(f"{field}: ")
    assert remedy in error.message
    assert PRIVATE not in error.message
    assert not error.retryable


#: The ends of each range, which are in it.
ACCEPTED: dict[str, dict[str, Any]] = {
    "shortest": {"request_id": "r", "tenant": "a", "voice": "v", "text": ""},
    "longest": {"request_id": "r" * 200, "tenant": "9" + "_" * 62, "voice": "v" * 200},
    "an id in Chinese": {"request_id": "請求-1"},
    "slowest": {"speed": 0.25, "seed": 0, "index": 0},
    "fastest": {"speed": 4, "seed": 2**63 - 1, "index": 2**31 - 1},
    "numbers as a CSV cell has them": {"speed": "1.5", "seed": "7", "output": {"channels": "2"}},
    "a long language": {"language": "zh-Hant-TW"},
    "eight weights": {"emotion": {"vector": [0, 1, 0, 1, 0, 1, 0, 1], "strength": 0}},
    "least output": {"output": {"sample_rate": 8000, "bitrate": 6000, "loudness_lufs": -70}},
    "most output": {"output": {"sample_rate": 48000, "bitrate": 512_000, "loudness_lufs": 0}},
    "most metadata": {"metadata": _too_many(64)},
    "a character beyond the first plane": {"text": "𝄞 and 😀"},
}


@pytest.mark.parametrize("sent", ACCEPTED.values(), ids=ACCEPTED)
def test_the_ends_of_each_range_are_accepted(sent: dict[str, Any]) -> None:
    assert request(**sent).request_id


def test_a_request_without_an_id_is_told_to_add_one() -> None:
    with pytest.raises(RequestError) as caught:
        from_fields(SpeechRequest, {"text": PRIVATE})

    assert caught.value.field == "request_id"
    assert caught.value.message == "request_id: missing; add it"


def test_a_text_is_needed() -> None:
    with pytest.raises(RequestError, match="neither text nor text_uri is given"):
        from_fields(SpeechRequest, {"request_id": "r-1"})


def test_two_texts_are_one_too_many() -> None:
    error = refusal(text=PRIVATE, text_uri="s3://texts/acme/book.txt")

    assert error.message == "text and text_uri are both given: keep one"


def test_a_text_uri_takes_the_place_of_a_text() -> None:
    sent = request(text=None, text_uri="s3://texts/acme/book.txt")

    assert sent.text_uri == "s3://texts/acme/book.txt"


@pytest.mark.parametrize(
    ("sent", "field", "meant"),
    [
        ({"txet": PRIVATE}, "txet", "text"),
        ({"Voice": PRIVATE}, "Voice", "voice"),
        ({"format": "mp3"}, "format", "output.format"),
        ({"output": {"fromat": "mp3"}}, "output.fromat", "output.format"),
        ({"output": {"tenant": "acme"}}, "output.tenant", "tenant"),
        ({"emotion": {"txt": PRIVATE}}, "emotion.txt", "emotion.text"),
        ({"strength": 1}, "strength", "emotion.strength"),
    ],
)
def test_an_unknown_field_is_refused_and_the_one_that_was_meant_is_named(
    sent: dict[str, Any], field: str, meant: str
) -> None:
    error = refusal(**sent)

    assert error.field == field
    assert error.message == f"{field}: no such field; did you mean {meant!r}?"


def test_a_name_of_a_million_characters_does_not_fill_the_message() -> None:
    error = refusal(**{"x" * 1_000_000: 1})

    assert len(error.message) < 300
    assert len(error.field or "") <= 100


def test_a_name_that_utf8_cannot_spell_leaves_a_message_that_can_be_sent() -> None:
    error = refusal(metadata={"\ud800": "value"})

    assert error.message.encode()
    assert error.field == "metadata"


def test_of_many_faults_the_first_is_told_and_the_others_are_counted() -> None:
    error = refusal(tenant="Acme", speed=9, seed=-1)

    assert error.field == "tenant"
    assert "2 more" in error.message


def test_a_time_may_be_milliseconds_of_the_epoch_as_avro_has_it() -> None:
    assert request(deadline=1_769_860_800_000).deadline == datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_an_event_cannot_be_changed() -> None:
    sent = request()

    with pytest.raises(AttributeError):
        sent.text = "Something else."  # type: ignore[misc]


FULL_REQUEST = SpeechRequest(
    request_id="r-1",
    tenant="acme",
    text="Hello, 世界. 😀",
    language="en-GB",
    voice="amy",
    model="hibari",
    speed=1.25,
    emotion=Emotion(vector=[0, 0.125, 0.25, 0.5, 0.75, 1, 0, 0], strength=0.5),
    seed=2**63 - 1,
    lexicon="names",
    output=Output(
        format=AudioFormat.OPUS,
        sample_rate=24000,
        channels=2,
        bitrate=64000,
        loudness_lufs=-16.0,
        timestamps=Timestamps.WORD,
        subtitles=Subtitles.VTT,
    ),
    deadline=datetime(2027, 1, 1, tzinfo=UTC),
    job_id="j",
    document_id="d",
    index=3,
    metadata={"page": "7"},
    created_at=datetime(2026, 1, 31, 12, 0, 0, 123000, tzinfo=UTC),
)

FULL_COMPLETION = SpeechCompleted(
    request_id="r-1",
    tenant="acme",
    status=Status.COMPLETED_WITH_WARNINGS,
    audio=Audio(
        bucket="speech",
        key="acme/ab.wav",
        sha256="ab" * 32,
        bytes=2**40,
        content_type="audio/wav",
        sample_rate=24000,
        channels=1,
        duration_ms=2**33,
    ),
    sidecars=[
        Sidecar(kind="vtt", bucket="speech", key="a/b", sha256="cd" * 32, content_type="text/vtt")
    ],
    segments=[SegmentMark(start_ms=0, end_ms=5, start_char=0, end_char=6, text="Hello.")],
    quality=Quality(verdict="clipped", peak_dbfs=-0.5, rms_dbfs=None, warnings=["clipped"]),
    usage=Usage(characters=6, audio_ms=5, compute_ms=1.5),
    cache_hit=True,
    engine="hibari",
    revision="1",
    seed_used=0,
    timings=Timings(queued_ms=0.5, synthesis_ms=1.5, upload_ms=2.5),
    batch_size=4,
    worker="w-0",
    attempt=2,
    error=Failure(code="INTERNAL", message="m", stage="upload", field="f", retryable=True),
    job_id="j",
    document_id="d",
    index=3,
    metadata={"page": "7"},
    source=Source(topic="speech.requests", partition=1, offset=2**40),
    completed_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
)


@pytest.mark.parametrize("event", [FULL_REQUEST, FULL_COMPLETION], ids=["request", "completion"])
def test_an_event_survives_json(event: Any) -> None:
    assert from_fields(type(event), json.loads(to_json(event))) == event


@pytest.mark.parametrize("event", [FULL_REQUEST, FULL_COMPLETION], ids=["request", "completion"])
def test_an_event_survives_its_fields(event: Any) -> None:
    assert from_fields(type(event), to_fields(event)) == event


@pytest.mark.parametrize("event", [FULL_REQUEST, FULL_COMPLETION], ids=["request", "completion"])
def test_the_examples_of_this_file_leave_no_field_at_its_default(
    event: SpeechRequest | SpeechCompleted,
) -> None:
    left = {f.name for f in fields(event) if getattr(event, f.name) == default_of(f)}

    assert left <= {"text_uri"}  # text is given


def test_json_leaves_out_what_is_null() -> None:
    sent = json.loads(to_json(request()))

    assert sent["request_id"] == "r-1"
    assert None not in sent.values()
    assert "text_uri" not in sent


@pytest.mark.parametrize("kind", [SpeechRequest, SpeechCompleted])
def test_the_dataclasses_are_the_avro_records_field_by_field(kind: type) -> None:
    seen = set(compare(kind, schema_of(kind)))

    expected = {
        SpeechRequest: {"SpeechRequest", "Emotion", "Output", "AudioFormat", "Timestamps"}
        | {"Subtitles"},
        SpeechCompleted: {"SpeechCompleted", "Status", "Audio", "Sidecar", "SegmentMark", "Quality"}
        | {"Usage", "Timings", "Failure", "Source"},
    }
    assert seen == expected[kind], "a type was not compared"


KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (Emotion, Output, Audio, Sidecar, SegmentMark, Quality, Usage, Timings, Failure)
} | {"Source": Source}
ENUMS: dict[str, type[StrEnum]] = {
    kind.__name__: kind for kind in (AudioFormat, Timestamps, Subtitles, Status)
}


def compare(kind: type, schema: dict[str, Any]) -> list[str]:
    """The names of all types that were found the same in dataclass and schema, from ``kind`` on."""
    assert schema["name"] == kind.__name__
    assert is_dataclass(kind)
    ours = {field.name: field for field in fields(kind)}
    theirs = {field["name"]: field for field in schema["fields"]}
    assert ours.keys() == theirs.keys()
    seen = [schema["name"]]
    for name, avro in theirs.items():
        place = f"{kind.__name__}.{name}"
        inner = inner_type(avro["type"])
        if isinstance(inner, dict) and inner["type"] == "record":
            seen += compare(KINDS[inner["name"]], inner)
        if isinstance(inner, dict) and inner["type"] == "enum":
            assert [choice.value for choice in ENUMS[inner["name"]]] == inner["symbols"], place
            assert inner["default"] == "unknown", f"{place}: old readers need a symbol to fall to"
            seen.append(inner["name"])
        required = default_of(ours[name]) is MISSING
        assert required == ("default" not in avro), f"{place}: required here, not there"
        if not required:
            assert plain(default_of(ours[name])) == filled(avro["default"], inner), place
    return seen


def inner_type(avro: Any) -> Any:
    """The type within ``["null", type]`` and within an array."""
    if isinstance(avro, list):
        assert avro[0] == "null", "the default of a union is of its first branch"
        return inner_type(avro[1])
    if isinstance(avro, dict) and avro["type"] == "array":
        return inner_type(avro["items"])
    return avro


def default_of(field: Field[Any]) -> Any:
    """The default of a dataclass's field, MISSING if it has none."""
    default = field.default
    if isinstance(default, FieldInfo):  # how pydantic keeps a factory
        made = default.get_default(call_default_factory=True, validated_data={})
        return MISSING if made is PydanticUndefined else made
    return field.default_factory() if field.default_factory is not MISSING else default


def plain(value: Any) -> Any:
    """A default as JSON data."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def filled(default: Any, inner: Any) -> Any:
    """An Avro default, what it leaves out of a record filled in from the record's own defaults."""
    if isinstance(default, dict) and isinstance(inner, dict) and inner["type"] == "record":
        known = {field["name"]: field["default"] for field in inner["fields"]}
        return known | default
    return default
