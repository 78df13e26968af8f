"""The two events as typed values, with the bounds of every field.

Owns the dataclasses that mirror ``schemas/*.avsc``. Knows nothing of bytes (codec), of how a fault
is explained (checks) nor of what an engine can do (prepare). Values are frozen: they pass between
threads.
"""

from enum import StrEnum
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

__all__ = [
    "ADAPTERS",
    "Audio",
    "AudioFormat",
    "Emotion",
    "Failure",
    "Output",
    "Quality",
    "SegmentMark",
    "Sidecar",
    "Source",
    "SpeechCompleted",
    "SpeechRequest",
    "Status",
    "Subtitles",
    "Timestamps",
    "Timings",
    "Usage",
    "to_fields",
    "to_json",
]


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair; UTF-8 can't
        raise PydanticCustomError("string_unicode", "half a character") from None
    return text


# No control characters, no separators of lines, nothing that turns the direction of writing: ids
# are shown in logs and on terminals.
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+$"
Text = Annotated[str, AfterValidator(_whole)]
Id = Annotated[str, Field(min_length=1, max_length=200, pattern=_PRINTABLE)]
Tenant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
S3Uri = Annotated[
    str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+$", max_length=1200)
]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

# An unknown key is refused, not dropped: a script that writes "txet" must hear of it. Evolution
# does not pass through here: Avro's schema resolution drops what a reader does not know before.
_CONFIG = ConfigDict(extra="forbid", str_strip_whitespace=False)
C = TypeVar("C")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def event(cls: type[C]) -> type[C]:
    """A frozen dataclass whose fields are checked when it is made."""
    return cast(type[C], dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)(cls))


class _Choice(StrEnum):
    """An enum whose ``unknown`` is what Avro gives an old reader for a symbol that is new to it."""


class AudioFormat(_Choice):
    UNKNOWN = "unknown"
    WAV = "wav"
    FLAC = "flac"
    MP3 = "mp3"
    OPUS = "opus"
    PCM = "pcm"
    MULAW = "mulaw"
    ALAW = "alaw"


class Timestamps(_Choice):
    UNKNOWN = "unknown"
    NONE = "none"
    SENTENCE = "sentence"
    WORD = "word"


class Subtitles(_Choice):
    UNKNOWN = "unknown"
    NONE = "none"
    SRT = "srt"
    VTT = "vtt"


class Status(_Choice):
    UNKNOWN = "unknown"
    COMPLETED = "completed"
    COMPLETED_WITH_WARNINGS = "completed_with_warnings"
    FAILED = "failed"
    EXPIRED = "expired"


@event
class Emotion:
    """How it should sound; at most one of the four ways to say it."""

    preset: Name | None = None
    vector: Annotated[list[Weight], Field(min_length=8, max_length=8)] | None = None
    text: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    reference_uri: S3Uri | None = None
    strength: Weight = 1.0

    @model_validator(mode="after")
    def _one_way(self) -> "Emotion":
        given = [
            n for n in ("preset", "vector", "text", "reference_uri") if getattr(self, n) is not None
        ]
        if len(given) > 1:
            raise PydanticCustomError("conflict", f"{' and '.join(given)} are both given: keep one")
        return self


@event
class Output:
    """How the audio is written. None leaves the choice to the engine or the encoder."""

    format: AudioFormat = AudioFormat.WAV
    sample_rate: Annotated[int, Field(ge=8000, le=48000)] | None = None
    channels: Annotated[int, Field(ge=1, le=2)] = 1
    bitrate: Annotated[int, Field(ge=6000, le=512_000)] | None = None
    loudness_lufs: Annotated[float, Field(ge=-70, le=0, allow_inf_nan=False)] | None = None
    timestamps: Timestamps = Timestamps.SENTENCE
    subtitles: Subtitles = Subtitles.NONE

    @field_validator("format", "timestamps", "subtitles")
    @classmethod
    def _known(cls, value: _Choice) -> _Choice:
        if value == "unknown":
            allowed = ", ".join(repr(choice.value) for choice in list(type(value))[1:])
            raise PydanticCustomError("unknown_choice", f"unknown value; use one of {allowed}")
        return value


@event
class SpeechRequest:
    """Ask for a text to be spoken: see ``schemas/speech_request.avsc`` for each field."""

    request_id: Id
    tenant: Tenant = "default"
    text: Text | None = None
    text_uri: S3Uri | None = None
    language: Language | None = None
    voice: Name | None = None
    model: Name | None = None
    speed: Annotated[float, Field(ge=0.25, le=4, allow_inf_nan=False)] = 1.0
    emotion: Emotion | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    lexicon: Name | None = None
    output: Output = Field(default_factory=Output)
    deadline: AwareDatetime | None = None
    job_id: Id | None = None
    document_id: Id | None = None
    index: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    metadata: Annotated[
        dict[
            Annotated[str, Field(min_length=1, max_length=128)],
            Annotated[str, Field(max_length=2000)],
        ],
        Field(max_length=64),
    ] = Field(default_factory=dict)
    created_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one_text(self) -> "SpeechRequest":
        if self.text is None and self.text_uri is None:
            raise PydanticCustomError("no_text", "neither text nor text_uri is given")
        if self.text is not None and self.text_uri is not None:
            raise PydanticCustomError("conflict", "text and text_uri are both given: keep one")
        return self


@event
class Audio:
    bucket: str
    key: str
    sha256: str
    bytes: int
    content_type: str
    sample_rate: int
    channels: int
    duration_ms: int


@event
class Sidecar:
    kind: str
    bucket: str
    key: str
    sha256: str
    content_type: str


@event
class SegmentMark:
    """One sentence's place in the audio (ms) and in the normalised text (code points)."""

    start_ms: int
    end_ms: int
    start_char: int
    end_char: int
    text: str = ""


@event
class Quality:
    verdict: str = "ok"
    peak_dbfs: Finite | None = None
    rms_dbfs: Finite | None = None
    warnings: list[str] = Field(default_factory=list)


@event
class Usage:
    characters: int = 0
    audio_ms: int = 0
    compute_ms: float = 0.0


@event
class Timings:
    """Milliseconds."""

    queued_ms: float = 0.0
    synthesis_ms: float = 0.0
    upload_ms: float = 0.0


@event
class Failure:
    code: str
    message: str
    stage: str
    field: str | None = None
    retryable: bool = False


@event
class Source:
    topic: str
    partition: int
    offset: int


@event
class SpeechCompleted:
    """How one request ended: see ``schemas/speech_completed.avsc`` for each field."""

    request_id: str
    status: Status
    tenant: str = "default"
    audio: Audio | None = None
    sidecars: list[Sidecar] = Field(default_factory=list)
    segments: list[SegmentMark] = Field(default_factory=list)
    quality: Quality | None = None
    usage: Usage = Field(default_factory=Usage)
    cache_hit: bool = False
    engine: str = ""
    revision: str = ""
    seed_used: int | None = None
    timings: Timings = Field(default_factory=Timings)
    batch_size: int = 0
    worker: str = ""
    attempt: int = 1
    error: Failure | None = None
    job_id: str | None = None
    document_id: str | None = None
    index: int | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    source: Source | None = None
    completed_at: AwareDatetime | None = None


E = TypeVar("E", SpeechRequest, SpeechCompleted)

#: What makes an event from plain data and back, by type.
ADAPTERS: dict[type, TypeAdapter[Any]] = {
    SpeechRequest: TypeAdapter(SpeechRequest),
    SpeechCompleted: TypeAdapter(SpeechCompleted),
}


def to_fields(value: SpeechRequest | SpeechCompleted) -> dict[str, Any]:
    """The event as nested dicts, lists and scalars, as fastavro takes them."""
    fields: dict[str, Any] = ADAPTERS[type(value)].dump_python(value)
    return fields


def to_json(value: SpeechRequest | SpeechCompleted) -> bytes:
    """The event as one JSON object, UTF-8, fields that are null left out."""
    return ADAPTERS[type(value)].dump_json(value, exclude_none=True)
