"""What a result is called and what is known of it: identity, keys, seeds, the stored manifest.

Owns what determines a request's audio. Keys are built from hashes and a checked tenant, never from
other input. The audio is named by its own SHA-256, the manifest by its request's; the manifest
alone makes a result complete.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from processor.engines.base import Capabilities, Voice
from processor.events import Audio, Output, Quality, SegmentMark, event
from processor.settings import TextSettings

__all__ = [
    "MAX_MANIFEST_BYTES",
    "Identity",
    "Manifest",
    "audio_key",
    "identify",
    "manifest_key",
    "segment_seed",
]

#: A manifest holds the text once and some numbers a sentence; more is not one of ours.
MAX_MANIFEST_BYTES = 8_000_000
#: Changes whenever the same identity would come to other audio (normalisation, joining, encoding)
#: or a manifest to another form: old and new workers then never meet under one key.
_RECIPE = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """All that determines a request's audio, and its hash."""

    digest: str
    voice: Voice
    seed: int


def identify(
    text: str,
    *,
    voice: Voice,
    seed: int,
    speed: float,
    output: Output,
    engine: Capabilities,
    joining: TextSettings,
) -> Identity:
    """The identity of ``text`` (normalised) spoken so. Equal identities have equal audio bytes."""
    parts: dict[str, Any] = {
        "recipe": _RECIPE,
        "text": text,
        "engine": [engine.engine, engine.revision, engine.max_segment_characters],
        "voice": [voice.name, voice.version, voice.language],  # its language says where to cut
        "speed": speed,
        "seed": seed,
        "pauses": [joining.sentence_pause_ms, joining.paragraph_pause_ms],
        "output": [
            output.format.value,
            output.sample_rate or engine.sample_rate,
            output.channels,
            output.bitrate,
        ],
    }
    canonical = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return Identity(hashlib.sha256(canonical.encode()).hexdigest(), voice, seed)


def segment_seed(seed: int, text: str) -> int:
    """The seed of one segment, 0 to 2^63-1: from what is said, not from where it stands, so that
    the same sentence sounds the same in every text."""
    digest = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def audio_key(tenant: str, sha256: str, suffix: str) -> str:
    return f"{tenant}/audio/{sha256[:2]}/{sha256}.{suffix}"


def manifest_key(tenant: str, digest: str) -> str:
    return f"{tenant}/manifests/{digest[:2]}/{digest}.json"


@event
class Manifest:
    """What a later request with the same identity must know to be answered without synthesis."""

    audio: Audio
    segments: list[SegmentMark]
    quality: Quality
    characters: int
    compute_ms: float
    engine: str
    revision: str
    seed_used: int

    def to_json(self) -> bytes:
        return _ADAPTER.dump_json(self)

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest | None":
        """The manifest, or None if ``data`` is none that this release can read."""
        try:
            return _ADAPTER.validate_json(data)
        except ValidationError:
            return None


_ADAPTER: TypeAdapter[Manifest] = TypeAdapter(Manifest)
