"""Engine ``simulated``: no voice. A device that takes its time, for measuring what is around it.

Owns a model of a batching device's time and memory, and faults on command. A call of n utterances
takes

    base_ms + item_ms * n + padded_ms * (n * seconds of the longest)

on the wall clock, of which ``bytecode_share`` is spent in Python, holding the interpreter lock as a
decode loop does, and the rest asleep, as a host is whose device is busy. The audio is as long as
speech of that text would be and carries the text, so that a reader can check what it got:
``read_back`` decodes it.
"""

import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Sequence

import numpy as np

from processor.engines.base import Capabilities, Samples, Speech, Utterance, Voice
from processor.errors import Code, RequestError, Stage
from processor.settings import EngineSettings, Settings, SimulatedSettings

__all__ = ["OutOfMemory", "SimulatedEngine", "create", "length", "read_back"]

_RATE = 16_000
#: Speech of a Latin letter at speed 1, in seconds.
_SECONDS_PER_CHARACTER = 0.06
_MAGIC = b"speechmill"
#: Samples are multiples of 1/128: they survive 16-bit files as they are.
_LEVELS = 128.0
_SPIN = 200
_MAX_BATCH = 64


class OutOfMemory(MemoryError):
    """The batch needs more memory than the simulated device has."""


class SimulatedEngine:
    """Implements Engine. One call at a time on each of its lanes."""

    def __init__(self, settings: EngineSettings, device: SimulatedSettings) -> None:
        self._device = device
        self.capabilities = Capabilities(
            engine="simulated",
            revision="1",
            sample_rate=_RATE,
            voices=(Voice("one", "en", "1"), Voice("two", "en", "1"), Voice("san", "zh", "1")),
            speeds=(0.25, 4.0),
            max_segment_characters=400,
            lanes=device.lanes,
            max_batch=settings.max_batch or _MAX_BATCH,
            pads=device.padded_ms > 0,
        )
        self._dice = random.Random(0)  # noqa: S311 - jitter, not a secret

    def warm_up(self) -> None:
        """There is nothing to load."""

    def check(self, text: str) -> None:
        """It reads everything."""

    def synthesize(self, batch: Sequence[Utterance]) -> list[Speech | RequestError]:
        began = time.monotonic()
        for utterance in batch:
            self._fault(utterance.text)
        seconds = [length(utterance) for utterance in batch]
        padded = len(batch) * max(seconds)
        if self._device.memory_s and padded > self._device.memory_s:
            raise OutOfMemory(f"{padded:.0f} s of padded audio; {self._device.memory_s:g} s fit")
        self._work(self._seconds(len(batch), padded), began)
        return [self._speak(utterance) for utterance in batch]

    def close(self) -> None:
        """There is nothing to free."""

    def _seconds(self, count: int, padded: float) -> float:
        device = self._device
        took = device.base_ms + device.item_ms * count + device.padded_ms * padded
        return took / 1000 * (1 + device.jitter * self._dice.uniform(-1, 1))

    def _work(self, seconds: float, began: float) -> None:
        """Be busy until ``seconds`` after ``began``, first in Python and then asleep.

        The part in Python is counted in processor time of this thread: where others hold the
        interpreter lock, it takes longer, as a real decode loop would.
        """
        in_python = seconds * self._device.bytecode_share
        late = 0.0
        if in_python > 0:
            asked = time.monotonic()
            spent = time.thread_time()
            while time.thread_time() - spent < in_python:
                sum(range(_SPIN))
            late = time.monotonic() - asked - in_python
        left = began + seconds + max(0.0, late) - time.monotonic()
        if left > 0:
            time.sleep(left)

    def _fault(self, text: str) -> None:
        for word, fault in self._device.faults.items():
            if word not in text:
                continue
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif fault == "raise":
                raise FloatingPointError(f"the simulated device failed on {word!r}")
            elif fault == "hang":
                threading.Event().wait()

    def _speak(self, utterance: Utterance) -> Speech | RequestError:
        found = {fault for word, fault in self._device.faults.items() if word in utterance.text}
        if "refuse" in found:
            return RequestError(
                Code.UNSUPPORTED_TEXT,
                "text: the simulated device refuses a word of it; leave it out",
                stage=Stage.SYNTHESIS,
                field="text",
            )
        samples = _encode(utterance)
        if "silent" in found:
            samples[:] = 0
        if "nan" in found:
            samples[-1] = np.nan
        return Speech(samples)


def create(settings: Settings) -> SimulatedEngine:
    return SimulatedEngine(settings.engine, settings.simulated)


def length(utterance: Utterance) -> float:
    """Seconds of audio that an utterance has."""
    return len(utterance.text) * _SECONDS_PER_CHARACTER / utterance.speed


def read_back(samples: Samples) -> tuple[str, str]:
    """Voice and text that one segment's audio carries. Raises ValueError if it carries none."""
    raw = np.rint(samples * _LEVELS + _LEVELS).astype(np.int64)
    head = len(_MAGIC) + 4
    if len(raw) < head or raw.min() < 0 or raw.max() > 255:
        raise ValueError("no audio of the simulated device")
    data = raw.astype(np.uint8).tobytes()
    size = int.from_bytes(data[len(_MAGIC) : head], "big")
    if data[: len(_MAGIC)] != _MAGIC or len(data) < head + size:
        raise ValueError("no audio of the simulated device")
    voice, _, text = data[head : head + size].decode().partition("\0")
    return voice, text


def _encode(utterance: Utterance) -> Samples:
    said = f"{utterance.voice}\0{utterance.text}".encode()
    data = _MAGIC + len(said).to_bytes(4, "big") + said
    count = max(len(data) + 1, int(length(utterance) * _RATE))
    seed = hashlib.sha256(data + utterance.seed.to_bytes(8, "big")).digest()
    noise = np.resize(np.frombuffer(seed, np.uint8) // 4 + 96, count)
    noise[: len(data)] = np.frombuffer(data, np.uint8)
    return (noise.astype(np.float32) - np.float32(_LEVELS)) / np.float32(_LEVELS)
