"""A record to a job: decode, check against what the engine can do, normalise, segment, look up.

Owns every reason to refuse a request before it costs device time. Called from the I/O threads; the
only I/O is with the store.
"""

from datetime import UTC, datetime

from processor.audio import FORMATS
from processor.checks import from_fields
from processor.codec import Codec
from processor.durations import Durations
from processor.engines.base import Engine, Utterance, Voice
from processor.errors import (
    Code,
    ObjectMissing,
    ObjectTooLarge,
    RequestError,
    Stage,
    StoreError,
    Undecodable,
)
from processor.events import AudioFormat, SpeechRequest, Subtitles, Timestamps
from processor.job import Job, Record, Segment, Ticket
from processor.ledger import Tenure
from processor.manifest import MAX_MANIFEST_BYTES, Manifest, identify, manifest_key, segment_seed
from processor.patience import Patience
from processor.segments import segment
from processor.settings import Settings
from processor.store import ObjectStore
from processor.text import normalise

__all__ = ["Preparer", "asked_at", "refuse_expired"]

#: UTF-8 needs at most four bytes a character, and markup is cleaned away before it is counted.
_BYTES_PER_CHARACTER = 16


class Preparer:
    """The first stage. One for a worker; its methods may be called from many threads."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        engine: Engine,
        store: ObjectStore,
        patience: Patience,
        durations: Durations,
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._engine = engine
        self._able = engine.capabilities
        self._store = store
        self._patience = patience
        self._durations = durations

    def decode(self, record: Record) -> dict[str, object]:
        """The request's fields, unchecked. Raises Undecodable, RegistryUnavailable."""
        if record.fault is not None:
            raise Undecodable(f"the record can't be read: {record.fault}; send it anew")
        headers = {name: value for name, value in record.headers if value is not None}
        return self._codec.fields(SpeechRequest, record.value, headers)

    def plan(self, ticket: Ticket, fields: dict[str, object]) -> Job:
        """The job for a record.

        Raises RequestError if the request can't be served, Abandoned if the partition was lost
        while the store was away.
        """
        request = from_fields(SpeechRequest, fields)
        refuse_expired(request)
        voice = self._voice(request)
        self._check_output(request)
        text = self._text(request, ticket.tenure)
        self._engine.check(text)
        identity = identify(
            text,
            voice=voice,
            seed=self._settings.engine.default_seed if request.seed is None else request.seed,
            speed=request.speed,
            output=request.output,
            engine=self._able,
            joining=self._settings.text,
        )
        job = Job(
            ticket=ticket,
            request=request,
            text=text,
            identity=identity,
            plan=tuple(segment(text, voice.language, self._able.max_segment_characters)),
            queued_at=asked_at(request, ticket.record),
        )
        job.segments = tuple(
            Segment(
                job,
                index,
                Utterance(
                    part.text, voice.name, request.speed, segment_seed(identity.seed, part.text)
                ),
                self._durations.predict(part.text, voice.name, request.speed),
            )
            for index, part in enumerate(job.plan)
        )
        return job

    def _text(self, request: SpeechRequest, tenure: Tenure) -> str:
        limit = self._settings.text.max_characters
        raw = request.text
        if raw is None:
            raw = self._patience.through(
                lambda: self._claim_check(request), unwanted=lambda: tenure.over
            )
        if len(raw) > limit:
            raise _too_long(limit)
        if raw.lstrip()[:7].lower().startswith("<speak"):
            raise _unsupported("text", "SSML is not read", "send plain text")
        return normalise(raw)

    def _claim_check(self, request: SpeechRequest) -> str:
        """The text that ``text_uri`` names: only from a bucket that is set, only the tenant's."""
        limit = self._settings.text.max_characters
        bucket, _, key = (request.text_uri or "").removeprefix("s3://").partition("/")
        if bucket not in self._settings.store.text_buckets:
            raise _no_text("this worker reads no such bucket: add it to store.text_buckets")
        if not key.startswith(f"{request.tenant}/") or ".." in key:
            raise _no_text("the key must start with the request's tenant")
        try:
            data = self._store.get(key, limit * _BYTES_PER_CHARACTER, bucket=bucket)
        except ObjectMissing:
            raise _no_text("there is no such object; put the text before the request") from None
        except ObjectTooLarge:
            raise _too_long(limit) from None
        except StoreError:  # a key that no store takes, or an object that we may not read
            raise _no_text("the store refuses to give it; check bucket, key and rights") from None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise _no_text(f"byte {error.start} is not UTF-8; save the text as UTF-8") from None

    def _voice(self, request: SpeechRequest) -> Voice:
        able = self._able
        if request.model not in (None, able.engine):
            raise RequestError(
                Code.UNKNOWN_MODEL,
                f"model: this worker speaks with {able.engine}; leave model out or name it",
                stage=Stage.PREPARE,
                field="model",
            )
        language = request.language or self._settings.text.default_language
        voices = [v for v in able.voices if request.voice in (None, v.name)]
        if not voices:
            raise RequestError(
                Code.UNKNOWN_VOICE,
                f"voice: {able.engine} has no such voice; use one of "
                f"{', '.join(v.name for v in able.voices)}",
                stage=Stage.PREPARE,
                field="voice",
            )
        spoken = [v for v in voices if _primary(v.language) == _primary(language)]
        if not spoken:
            raise RequestError(
                Code.UNSUPPORTED_LANGUAGE,
                f"language: {language} is not spoken here; use one of {', '.join(able.languages)}",
                stage=Stage.PREPARE,
                field="language",
            )
        return next((v for v in spoken if v.language.lower() == language.lower()), spoken[0])

    def _check_output(self, request: SpeechRequest) -> None:
        able, output = self._able, request.output
        slowest, fastest = able.speeds
        if not slowest <= request.speed <= fastest:
            raise _unsupported(
                "speed", f"{able.engine} speaks at {slowest:g} to {fastest:g}", "stay within it"
            )
        for name in ("emotion", "lexicon"):
            if getattr(request, name) is not None:
                raise _unsupported(name, f"{able.engine} has none", "leave it out")
        if output.format not in FORMATS:
            names = ", ".join(form.value for form in FORMATS if form is not AudioFormat.UNKNOWN)
            raise _unsupported("output.format", "not written yet", f"use one of {names}")
        if output.sample_rate not in (None, able.sample_rate):
            raise _unsupported(
                "output.sample_rate", "audio is not resampled yet", f"use {able.sample_rate}"
            )
        for name, value in (("bitrate", output.bitrate), ("loudness_lufs", output.loudness_lufs)):
            if value is not None:
                raise _unsupported(f"output.{name}", "can't be chosen yet", "leave it out")
        if output.timestamps is Timestamps.WORD:
            raise _unsupported("output.timestamps", "words are not timed yet", "use sentence")
        if output.subtitles is not Subtitles.NONE:
            raise _unsupported("output.subtitles", "not written yet", "use none")

    def stored(self, job: Job) -> Manifest | None:
        """The stored result of a job, if its audio is in place. Raises Abandoned.

        Notes in the job if a useless manifest lies there, which has to be replaced.
        """
        key = manifest_key(job.request.tenant, job.identity.digest)

        def look_up() -> tuple[Manifest | None, bool]:
            try:
                found = Manifest.from_json(self._store.get(key, MAX_MANIFEST_BYTES))
            except ObjectMissing:
                return None, False
            except ObjectTooLarge:
                return None, True
            if found is None or self._store.size(found.audio.key) != found.audio.bytes:
                return None, True
            return found, False

        manifest, job.replace_manifest = self._patience.through(
            look_up, unwanted=lambda: job.unwanted
        )
        return manifest


def asked_at(request: SpeechRequest, record: Record) -> datetime:
    """When the request was made, by its own word or else by its record's time."""
    if request.created_at is not None:
        return request.created_at
    if record.timestamp_ms is not None:
        try:
            return datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            pass  # a time that no calendar has; producers may set any
    return datetime.now(UTC)


def refuse_expired(request: SpeechRequest) -> None:
    """Raise RequestError (DEADLINE_EXPIRED) if the request's deadline has passed."""
    if request.deadline is not None and request.deadline < datetime.now(UTC):
        raise RequestError(
            Code.DEADLINE_EXPIRED,
            "deadline: it had passed before there was time for it; nothing was synthesised",
            stage=Stage.PREPARE,
            field="deadline",
            retryable=True,
        )


def _primary(language: str) -> str:
    return language.split("-")[0].lower()


def _too_long(limit: int) -> RequestError:
    return RequestError(
        Code.TEXT_TOO_LONG,
        f"text: longer than {limit} characters; split it, as `speechmill submit FILE` does",
        stage=Stage.PREPARE,
        field="text",
    )


def _no_text(why: str) -> RequestError:
    return RequestError(
        Code.TEXT_UNAVAILABLE, f"text_uri: {why}", stage=Stage.PREPARE, field="text_uri"
    )


def _unsupported(field: str, what: str, remedy: str) -> RequestError:
    return RequestError(
        Code.UNSUPPORTED_PARAMETER,
        f"{field}: {what}; {remedy}",
        stage=Stage.PREPARE,
        field=field,
    )
