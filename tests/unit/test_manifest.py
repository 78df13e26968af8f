"""What a result is called: the same name for the same audio, another for any other."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.engines.base import Capabilities, Voice
from processor.events import Audio, AudioFormat, Output, Quality, SegmentMark, Subtitles, Timestamps
from processor.manifest import Manifest, audio_key, identify, manifest_key, segment_seed
from processor.settings import TextSettings

pytestmark = pytest.mark.unit

VOICE = Voice("anna", "en-GB", "3")
ENGINE = Capabilities(
    engine="model",
    revision="abc",
    sample_rate=24_000,
    voices=(VOICE,),
    speeds=(0.5, 2.0),
    max_segment_characters=400,
    lanes=1,
    max_batch=8,
)
REQUEST: dict[str, Any] = {
    "text": "Hello there.",
    "voice": VOICE,
    "seed": 7,
    "speed": 1.0,
    "output": Output(),
    "engine": ENGINE,
    "joining": TextSettings(),
}

_seeds = st.integers(0, 2**63 - 1)


def digest(**changes: object) -> str:
    return identify(**{**REQUEST, **changes}).digest


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"text": "Hello there!"}, id="text"),
        pytest.param({"voice": replace(VOICE, name="ben")}, id="voice"),
        pytest.param({"voice": replace(VOICE, version="4")}, id="voice-version"),
        pytest.param({"voice": replace(VOICE, language="de")}, id="voice-language"),
        pytest.param({"seed": 8}, id="seed"),
        pytest.param({"speed": 1.1}, id="speed"),
        pytest.param({"output": Output(format=AudioFormat.FLAC)}, id="format"),
        pytest.param({"output": Output(channels=2)}, id="channels"),
        pytest.param({"output": Output(sample_rate=16_000)}, id="sample-rate"),
        pytest.param({"output": Output(bitrate=64_000)}, id="bitrate"),
        pytest.param({"engine": replace(ENGINE, engine="other")}, id="engine"),
        pytest.param({"engine": replace(ENGINE, revision="abd")}, id="engine-revision"),
        pytest.param({"engine": replace(ENGINE, max_segment_characters=300)}, id="where-it-is-cut"),
        pytest.param({"joining": TextSettings(sentence_pause_ms=121)}, id="sentence-pause"),
        pytest.param({"joining": TextSettings(paragraph_pause_ms=401)}, id="paragraph-pause"),
    ],
)
def test_whatever_changes_the_audio_changes_the_identity(change: dict[str, object]) -> None:
    assert digest(**change) != digest()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"output": Output(timestamps=Timestamps.NONE)}, id="timestamps"),
        pytest.param({"output": Output(subtitles=Subtitles.SRT)}, id="subtitles"),
        pytest.param({"joining": TextSettings(max_characters=5)}, id="longest-text"),
        pytest.param({"joining": TextSettings(default_language="zh")}, id="default-language"),
        pytest.param({"engine": replace(ENGINE, lanes=9, max_batch=1)}, id="lanes-and-batches"),
        pytest.param({"engine": replace(ENGINE, voices=())}, id="other-voices"),
        pytest.param({"engine": replace(ENGINE, speeds=(1.0, 1.0))}, id="other-speeds"),
    ],
)
def test_what_does_not_change_the_audio_does_not_change_the_identity(
    change: dict[str, object],
) -> None:
    assert digest(**change) == digest()


def test_an_identity_is_a_sha256_with_the_voice_and_the_seed_it_stands_for() -> None:
    identity = identify(**REQUEST)

    assert len(bytes.fromhex(identity.digest)) == 32
    assert (identity.voice, identity.seed) == (VOICE, 7)


@given(st.text(), st.text())
def test_parts_can_not_be_mistaken_for_each_other(one: str, other: str) -> None:
    assert digest(voice=Voice(one, "en", other)) != digest(voice=Voice(one + "x", "en", other))
    assert (digest(voice=Voice(one, "en", other)) == digest(voice=Voice(other, "en", one))) is (
        one == other
    )


def test_identities_are_the_same_on_every_machine_and_in_every_release() -> None:
    """If this fails, every stored result is orphaned: change the recipe's number on purpose."""
    assert digest() == "9343d7a4da8ad8cc1041ee05b2e9d9c75385708c3f956a84b82abb14143ecda0"


@given(_seeds, st.text())
def test_a_segments_seed_is_a_number_that_an_engine_can_take(seed: int, text: str) -> None:
    assert 0 <= segment_seed(seed, text) < 2**63


@given(_seeds, st.text())
def test_a_segments_seed_comes_from_the_requests_seed_and_its_own_text(
    seed: int, text: str
) -> None:
    assert segment_seed(seed, text) == segment_seed(seed, text)
    assert segment_seed(seed, text) != segment_seed(seed, text + ".")
    assert segment_seed(seed, text) != segment_seed(seed ^ 1, text)


def test_segment_seeds_are_the_same_in_every_release() -> None:
    assert segment_seed(0, "Hello.") == 4654556963763041160


def test_keys_start_with_the_tenant_and_end_with_what_they_hold() -> None:
    assert audio_key("acme", "ab" * 32, "wav") == f"acme/audio/ab/{'ab' * 32}.wav"
    assert manifest_key("acme", "cd" * 32) == f"acme/manifests/cd/{'cd' * 32}.json"


def test_tenants_share_no_key() -> None:
    name = "ab" * 32

    assert audio_key("acme", name, "wav") != audio_key("acme2", name, "wav")
    assert manifest_key("acme", name) != manifest_key("acme2", name)


# -- the stored manifest ----------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"]))
_counts = st.integers(0, 2**53)
_levels = st.none() | st.floats(-200, 20)
_manifests = st.builds(
    Manifest,
    audio=st.builds(
        Audio,
        bucket=_texts,
        key=_texts,
        sha256=_texts,
        bytes=_counts,
        content_type=_texts,
        sample_rate=_counts,
        channels=_counts,
        duration_ms=_counts,
    ),
    segments=st.lists(
        st.builds(
            SegmentMark,
            start_ms=_counts,
            end_ms=_counts,
            start_char=_counts,
            end_char=_counts,
            text=_texts,
        ),
        max_size=3,
    ),
    quality=st.builds(
        Quality, verdict=_texts, peak_dbfs=_levels, rms_dbfs=_levels, warnings=st.lists(_texts)
    ),
    characters=_counts,
    compute_ms=st.floats(0, 1e9),
    engine=_texts,
    revision=_texts,
    seed_used=_seeds,
)


def a_manifest(**changes: object) -> bytes:
    """A stored one, with some fields as they should not be."""
    fields = {
        "audio": {
            "bucket": "speech",
            "key": "acme/audio/ab/ab.wav",
            "sha256": "ab",
            "bytes": 10,
            "content_type": "audio/wav",
            "sample_rate": 24000,
            "channels": 1,
            "duration_ms": 5,
        },
        "segments": [],
        "quality": {},
        "characters": 3,
        "compute_ms": 1.5,
        "engine": "model",
        "revision": "abc",
        "seed_used": 7,
    }
    return json.dumps({**fields, **changes}).encode()


@given(_manifests)
def test_a_manifest_comes_back_from_its_json(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_manifest_is_read_as_it_was_written() -> None:
    manifest = Manifest.from_json(a_manifest())

    assert manifest is not None
    assert (manifest.audio.bytes, manifest.seed_used, manifest.quality) == (10, 7, Quality())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(a_manifest()[:-9], id="cut-off"),
        pytest.param(b"\xff\xfe\x00", id="not-utf-8"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b"{}", id="no-fields"),
        pytest.param(a_manifest(audio=None), id="no-audio"),
        pytest.param(a_manifest(characters="many"), id="a-wrong-type"),
        pytest.param(a_manifest(colour="red"), id="a-field-of-a-later-release"),
    ],
)
def test_what_this_release_can_not_read_is_no_manifest(data: bytes) -> None:
    assert Manifest.from_json(data) is None
