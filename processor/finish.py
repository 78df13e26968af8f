"""A spoken job, a stored result or a refusal to an outcome: what is put, and what is answered.

Owns the order that makes a result complete: audio first, then the manifest (the first one written
stands), then the completion. Called from the I/O threads.
"""

import hashlib
import time
from dataclasses import replace
from datetime import UTC, datetime

from processor.audio import encode, join, measure
from processor.checks import claimed
from processor.codec import Codec
from processor.deadletter import dead_letter
from processor.engines.base import Capabilities
from processor.errors import Code, RequestError, StoreUnavailable
from processor.events import (
    Audio,
    Failure,
    SegmentMark,
    SpeechCompleted,
    Status,
    Timings,
    Usage,
)
from processor.job import Job, Message, Outcome, Ticket
from processor.manifest import MAX_MANIFEST_BYTES, Manifest, audio_key, manifest_key
from processor.metrics import Metrics
from processor.patience import Patience
from processor.settings import Settings
from processor.store import ObjectStore

__all__ = ["Finisher"]

#: From here on a completion may not fit into a record of a broker with defaults.
_LARGE_BYTES = 400_000
#: Headers of a request that its completion carries on: W3C trace context.
_PASSED_ON = ("traceparent", "tracestate")


class Finisher:
    """The last stage before publication. One for a worker; may be called from many threads."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        able: Capabilities,
        store: ObjectStore,
        patience: Patience,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._able = able
        self._store = store
        self._patience = patience
        self._metrics = metrics

    def finish(self, job: Job) -> Outcome:
        """Join, encode and put the audio of a job whose segments are all delivered.

        Raises RequestError if a segment failed or the audio is broken, Abandoned if the partition
        was lost while the store was away.
        """
        text = self._settings.text
        pauses = [
            text.paragraph_pause_ms if part.last else text.sentence_pause_ms for part in job.plan
        ]
        output = job.request.output
        with self._metrics.stage("encode"):
            joined = join(job.samples, pauses, self._able.sample_rate)
            quality = measure(joined.samples)
            file = encode(joined.samples, self._able.sample_rate, output.format, output.channels)
            sha256 = hashlib.sha256(file.data).hexdigest()
        rate = self._able.sample_rate
        manifest = Manifest(
            audio=Audio(
                bucket=self._store.bucket,
                key=audio_key(job.request.tenant, sha256, file.suffix),
                sha256=sha256,
                bytes=len(file.data),
                content_type=file.content_type,
                sample_rate=file.sample_rate,
                channels=file.channels,
                duration_ms=file.duration_ms,
            ),
            segments=[
                SegmentMark(
                    start_ms=round(first * 1000 / rate),
                    end_ms=round(last * 1000 / rate),
                    start_char=part.start,
                    end_char=part.end,
                    text=part.text,
                )
                for part, (first, last) in zip(job.plan, joined.spans, strict=True)
            ],
            quality=quality,
            characters=len(job.text),
            compute_ms=round(job.compute_s * 1000, 3),
            engine=self._able.engine,
            revision=self._able.revision,
            seed_used=job.identity.seed,
        )
        began = time.time()
        with self._metrics.stage("put"):
            stands = self._patience.through(
                lambda: self._put(job, manifest, file.data), unwanted=lambda: job.unwanted
            )
        upload_ms = (time.time() - began) * 1000
        return self._completed(job, stands, upload_ms=upload_ms, cache_hit=False)

    def answer(self, job: Job, manifest: Manifest) -> Outcome:
        """The outcome of a request whose result is in the store."""
        self._metrics.cache_hits.inc()
        return self._completed(job, manifest, upload_ms=0.0, cache_hit=True)

    def refuse(self, ticket: Ticket, fields: dict[str, object], error: RequestError) -> Outcome:
        """The outcome of a request that can't be served: a failed completion and a dead letter.

        Bytes without a usable request_id have nobody to answer to: a dead letter alone. A request
        that came too late is answered, and is no letter: it was good. Raises Abandoned.
        """
        letter = dead_letter(
            ticket.record,
            error,
            topic=self._settings.kafka.deadletters,
            worker=self._settings.worker.name,
        )
        known = claimed(fields)
        if known is None:
            return Outcome((letter,), None, code=error.code)
        expired = error.code is Code.DEADLINE_EXPIRED
        completion = SpeechCompleted(
            **known,
            status=Status.EXPIRED if expired else Status.FAILED,
            engine=self._able.engine,
            revision=self._able.revision,
            worker=self._settings.worker.name,
            error=Failure(
                code=error.code.value,
                message=error.message,
                stage=error.stage.value,
                field=error.field,
                retryable=error.retryable,
            ),
            attempt=ticket.attempt,
            source=ticket.record.source,
            completed_at=datetime.now(UTC),
        )
        message = self._message(completion, ticket)
        messages = (message,) if expired else (message, letter)
        return Outcome(messages, completion.status, code=error.code)

    def _put(self, job: Job, manifest: Manifest, data: bytes) -> Manifest:
        """Put audio and manifest; the manifest that stands, ours or an earlier one."""
        tenant = job.request.tenant
        self._store.put(manifest.audio.key, data, manifest.audio.content_type)
        key = manifest_key(tenant, job.identity.digest)
        body = manifest.to_json()
        if job.replace_manifest:
            self._store.put(key, body, "application/json")
            return manifest
        if self._store.put_if_absent(key, body, "application/json"):
            return manifest
        stands = Manifest.from_json(self._store.get(key, MAX_MANIFEST_BYTES))
        if stands is None:
            job.replace_manifest = True
            raise StoreUnavailable(f"{key}: the manifest there is unreadable; replacing it")
        return stands

    def _completed(
        self, job: Job, manifest: Manifest, *, upload_ms: float, cache_hit: bool
    ) -> Outcome:
        request = job.request
        self._metrics.characters.inc(manifest.characters)
        now = datetime.now(UTC)
        started = now.timestamp() if job.started is None else job.started
        ended = job.ended or started
        completion = SpeechCompleted(
            request_id=request.request_id,
            tenant=request.tenant,
            status=(
                Status.COMPLETED_WITH_WARNINGS if manifest.quality.warnings else Status.COMPLETED
            ),
            audio=manifest.audio,
            segments=manifest.segments,
            quality=manifest.quality,
            usage=Usage(
                characters=manifest.characters,
                audio_ms=manifest.audio.duration_ms,
                compute_ms=0.0 if cache_hit else round(job.compute_s * 1000, 3),
            ),
            cache_hit=cache_hit,
            engine=manifest.engine,
            revision=manifest.revision,
            seed_used=manifest.seed_used,
            timings=Timings(
                queued_ms=round(max(0.0, started - job.queued_at.timestamp()) * 1000, 3),
                synthesis_ms=round((ended - started) * 1000, 3),
                upload_ms=round(upload_ms, 3),
            ),
            batch_size=job.batch_size,
            worker=self._settings.worker.name,
            job_id=request.job_id,
            document_id=request.document_id,
            index=request.index,
            metadata=request.metadata,
            attempt=job.ticket.attempt,
            source=job.record.source,
            completed_at=now,
        )
        return Outcome((self._message(completion, job.ticket),), completion.status, manifest)

    def _message(self, completion: SpeechCompleted, ticket: Ticket) -> Message:
        topic, record = self._settings.kafka.completions, ticket.record
        passed_on = tuple(item for item in record.headers if item[0].lower() in _PASSED_ON)
        with self._metrics.stage("answer"):
            value = self._patience.through(
                lambda: self._codec.encode(completion, topic=topic),
                unwanted=lambda: ticket.tenure.over,
            )
        key, lane = completion.request_id.encode(), record.partition
        smaller = None
        if len(value) > _LARGE_BYTES:  # the texts of its segments are what makes it large
            marks = [replace(mark, text="") for mark in completion.segments]
            bare = self._codec.encode(replace(completion, segments=marks), topic=topic)
            smaller = Message(topic, key, bare, passed_on, lane)
        return Message(topic, key, value, passed_on, lane, smaller)
