"""Samples to a file in memory: joining, level, encoding.

Owns formats and content types. Pure; called from any thread.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile

from processor.engines.base import Samples
from processor.errors import Code, RequestError, Stage
from processor.events import AudioFormat, Quality

__all__ = ["FORMATS", "Encoded", "Joined", "encode", "join", "measure"]


@dataclass(frozen=True, slots=True)
class Format:
    """How libsndfile is asked for a format. ``content_type`` as IANA or common practice has it."""

    container: str
    subtype: str
    suffix: str
    content_type: str


# Opus is not here: libsndfile gives each Ogg stream a random serial number, and the same request
# must have the same bytes.
FORMATS = {
    AudioFormat.WAV: Format("WAV", "PCM_16", "wav", "audio/wav"),
    AudioFormat.FLAC: Format("FLAC", "PCM_16", "flac", "audio/flac"),
    AudioFormat.MP3: Format("MP3", "MPEG_LAYER_III", "mp3", "audio/mpeg"),
    AudioFormat.PCM: Format("RAW", "PCM_16", "pcm", "audio/pcm"),
    AudioFormat.MULAW: Format("WAV", "ULAW", "wav", "audio/wav"),
    AudioFormat.ALAW: Format("WAV", "ALAW", "wav", "audio/wav"),
}


@dataclass(frozen=True, slots=True)
class Joined:
    """One request's audio: samples [n], and each segment's first and one-past-last sample."""

    samples: Samples
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    data: bytes
    suffix: str
    content_type: str
    sample_rate: int
    channels: int
    duration_ms: int


def join(parts: Sequence[Samples], pauses_ms: Sequence[int], sample_rate: int) -> Joined:
    """``parts`` in order, each followed by its pause of silence; the last pause is left out."""
    pieces: list[Samples] = []
    spans = []
    at = 0
    for number, (part, pause_ms) in enumerate(zip(parts, pauses_ms, strict=True)):
        spans.append((at, at + len(part)))
        pieces.append(part)
        at += len(part)
        if number < len(parts) - 1:
            silence = np.zeros(pause_ms * sample_rate // 1000, np.float32)
            pieces.append(silence)
            at += len(silence)
    return Joined(np.concatenate(pieces), tuple(spans))


def measure(samples: Samples) -> Quality:
    """Peak and RMS in dB of full scale. Raises RequestError (ENGINE_FAILED) for audio that is none:
    samples that are not finite, or none, or silence from end to end."""
    if not len(samples):
        raise _broken("it has no samples")
    if not np.isfinite(samples).all():
        raise _broken("some samples are not finite numbers")
    peak = float(np.abs(samples).max())
    if peak == 0.0:
        raise _broken("it is silent from end to end")
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    warnings = ["clipped"] if peak > 1.0 else []
    return Quality(
        verdict="warning" if warnings else "ok",
        peak_dbfs=round(20 * float(np.log10(peak)), 2),
        rms_dbfs=round(20 * float(np.log10(rms)), 2),
        warnings=warnings,
    )


def encode(samples: Samples, sample_rate: int, kind: AudioFormat, channels: int = 1) -> Encoded:
    """``samples`` as a file in memory; the same samples give the same bytes."""
    form = FORMATS[kind]
    clipped = np.clip(samples, -1.0, 1.0)
    frames = clipped if channels == 1 else np.repeat(clipped[:, None], channels, axis=1)
    out = io.BytesIO()
    soundfile.write(out, frames, sample_rate, format=form.container, subtype=form.subtype)
    return Encoded(
        data=out.getvalue(),
        suffix=form.suffix,
        content_type=form.content_type,
        sample_rate=sample_rate,
        channels=channels,
        duration_ms=round(len(samples) * 1000 / sample_rate),
    )


def _broken(why: str) -> RequestError:
    return RequestError(
        Code.ENGINE_FAILED,
        f"the engine's audio is broken: {why}",
        stage=Stage.ENCODE,
        retryable=True,
    )
