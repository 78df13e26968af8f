"""Samples to files: what is written opens again, and the same samples give the same bytes."""

import io
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from processor.audio import FORMATS, Encoded, encode, join, measure
from processor.engines.base import Samples
from processor.errors import Code, RequestError, Stage
from processor.events import AudioFormat

pytestmark = pytest.mark.unit

RATE = 24_000


def tone(seconds: float, level: float = 0.5, rate: int = RATE) -> Samples:
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def heard(file: Encoded, kind: AudioFormat) -> tuple[Samples, int]:
    """The file's samples [n, channels] and rate, as soundfile opens it."""
    raw: dict[str, Any] = {}
    if kind is AudioFormat.PCM:  # has no header: its reader must know what is in it
        raw = {
            "format": "RAW",
            "subtype": "PCM_16",
            "samplerate": file.sample_rate,
            "channels": file.channels,
        }
    samples, rate = soundfile.read(io.BytesIO(file.data), dtype="float32", always_2d=True, **raw)
    return samples, rate


every_format = pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.value)


# -- joining ----------------------------------------------------------------------------------


def test_parts_are_joined_with_silence_between_and_none_at_the_end() -> None:
    one, two = tone(0.1), tone(0.2)

    joined = join([one, two], [120, 400], RATE)

    assert joined.spans == ((0, 2400), (2400 + 2880, 2400 + 2880 + 4800))
    assert len(joined.samples) == 2400 + 2880 + 4800
    assert joined.samples.dtype == np.float32
    assert not joined.samples[2400 : 2400 + 2880].any()


def test_one_part_alone_is_itself() -> None:
    one = tone(0.1)

    joined = join([one], [400], RATE)

    assert np.array_equal(joined.samples, one)
    assert joined.spans == ((0, 2400),)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 400)), min_size=1, max_size=8),
    st.sampled_from([8000, 22_050, 24_000, 44_100]),
)
def test_each_span_holds_its_part_and_all_else_is_silence(
    plan: list[tuple[int, int]], rate: int
) -> None:
    parts = [np.full(length, 1 + n, np.float32) for n, (length, _) in enumerate(plan)]
    pauses = [pause for _, pause in plan]

    joined = join(parts, pauses, rate)

    for part, (first, last) in zip(parts, joined.spans, strict=True):
        assert np.array_equal(joined.samples[first:last], part)
    silence = sum(pause * rate // 1000 for pause in pauses[:-1])
    assert np.count_nonzero(joined.samples == 0) == silence
    assert len(joined.samples) == silence + sum(map(len, parts))


# -- level ------------------------------------------------------------------------------------


def test_levels_are_in_decibels_of_full_scale() -> None:
    quality = measure(np.array([0.5, -0.5, 0.5, -0.5], np.float32))

    assert (quality.peak_dbfs, quality.rms_dbfs) == (-6.02, -6.02)
    assert (quality.verdict, quality.warnings) == ("ok", [])


def test_a_tones_rms_is_three_decibels_below_its_peak() -> None:
    quality = measure(tone(1.0, level=1.0))

    assert quality.peak_dbfs == pytest.approx(0.0, abs=0.01)
    assert quality.rms_dbfs == pytest.approx(-3.01, abs=0.01)


def test_audio_above_full_scale_is_a_warning() -> None:
    quality = measure(np.array([0.1, -1.001], np.float32))

    assert (quality.verdict, quality.warnings) == ("warning", ["clipped"])


def test_audio_at_full_scale_is_none() -> None:
    assert measure(np.array([1.0, -1.0], np.float32)).warnings == []


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        pytest.param([0.1, float("nan"), 0.1], "not finite", id="nan"),
        pytest.param([0.1, float("inf")], "not finite", id="infinite"),
        pytest.param([float("-inf")], "not finite", id="minus-infinite"),
        pytest.param([0.0] * 100, "silent", id="silence"),
        pytest.param([], "no samples", id="nothing"),
    ],
)
def test_audio_that_is_none_is_the_engines_failure_and_may_be_retried(
    samples: list[float], reason: str
) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        measure(np.array(samples, np.float32))

    assert caught.value.code is Code.ENGINE_FAILED
    assert caught.value.stage is Stage.ENCODE
    assert caught.value.retryable


# -- encoding ---------------------------------------------------------------------------------


@every_format
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 22_050, 24_000, 48_000])
def test_a_file_opens_again_with_what_was_written(
    kind: AudioFormat, channels: int, rate: int
) -> None:
    written = tone(0.777, rate=rate)
    file = encode(written, rate, kind, channels)

    samples, found = heard(file, kind)

    assert (found, file.sample_rate, file.channels) == (rate, rate, channels)
    assert samples.shape == (len(written), channels)
    assert file.duration_ms == 777
    middle = slice(len(written) // 4, -len(written) // 4)  # MP3 rings at both ends
    for channel in samples[middle].T:
        assert np.abs(channel - written[middle]).max() < 0.1


@every_format
def test_the_same_samples_give_the_same_bytes(kind: AudioFormat) -> None:
    assert encode(tone(0.5), RATE, kind, 2) == encode(tone(0.5), RATE, kind, 2)
    assert encode(tone(0.5), RATE, kind).data != encode(tone(0.5, level=0.4), RATE, kind).data


@every_format
def test_both_channels_of_a_stereo_file_are_the_same(kind: AudioFormat) -> None:
    samples, _ = heard(encode(tone(0.5), RATE, kind, channels=2), kind)

    assert np.abs(samples[:, 0] - samples[:, 1]).max() < 0.001


@every_format
def test_what_is_above_full_scale_is_cut_off_and_does_not_wrap_round(kind: AudioFormat) -> None:
    samples, _ = heard(encode(tone(0.5, level=3.0), RATE, kind), kind)

    written = tone(0.5)
    loud = np.abs(written) > 0.4
    assert (np.sign(samples[loud, 0]) == np.sign(written[loud])).all()


@pytest.mark.parametrize(
    ("kind", "starts", "suffix", "content_type"),
    [
        (AudioFormat.WAV, b"RIFF", "wav", "audio/wav"),
        (AudioFormat.FLAC, b"fLaC", "flac", "audio/flac"),
        (AudioFormat.MP3, b"\xff", "mp3", "audio/mpeg"),
        (AudioFormat.PCM, b"\x00\x00", "pcm", "audio/pcm"),
        (AudioFormat.MULAW, b"RIFF", "wav", "audio/wav"),
        (AudioFormat.ALAW, b"RIFF", "wav", "audio/wav"),
    ],
)
def test_each_format_says_what_it_is(
    kind: AudioFormat, starts: bytes, suffix: str, content_type: str
) -> None:
    file = encode(tone(0.5), RATE, kind)

    assert file.data.startswith(starts)
    assert (file.suffix, file.content_type) == (suffix, content_type)


def test_pcm_is_nothing_but_little_endian_samples() -> None:
    file = encode(np.array([0.0, 0.5, -1.0], np.float32), RATE, AudioFormat.PCM)

    assert file.data == np.array([0, 16384, -32768], "<i2").tobytes()


def test_every_format_is_written_but_those_without_the_same_bytes_twice() -> None:
    assert set(AudioFormat) - set(FORMATS) == {AudioFormat.UNKNOWN, AudioFormat.OPUS}
