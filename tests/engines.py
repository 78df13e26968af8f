"""Engines for tests: ones that do on command what a real one does by accident.

They pass the same contract suite as the real engine (tests/unit/test_engine_contract.py).
"""

import hashlib
import threading
from collections.abc import Sequence

import numpy as np

from processor.engines.base import Capabilities, Speech, Utterance, Voice
from processor.errors import Code, RequestError, Stage

__all__ = ["ScriptedEngine"]

_RATE = 8000


class ScriptedEngine:
    """Speaks tones in batches. Some words of a text are orders:

    ``UNREADABLE`` comes back as a typed refusal, ``BREAKS`` makes the whole call raise, ``NAN``
    gives samples that are no numbers, ``SILENT`` gives zeros. ``gate`` is waited for in each call.
    """

    def __init__(self, *, lanes: int = 1, max_batch: int = 8) -> None:
        self.capabilities = Capabilities(
            engine="scripted",
            revision="1",
            sample_rate=_RATE,
            voices=(
                Voice("alto", "en", "1"),
                Voice("bass", "en-GB", "1"),
                Voice("chen", "zh", "1"),
            ),
            speeds=(0.5, 2.0),
            max_segment_characters=200,
            lanes=lanes,
            max_batch=max_batch,
        )
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[str]] = []
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """There is nothing to load."""

    def check(self, text: str) -> None:
        if "☃" in text:
            raise RequestError(
                Code.UNSUPPORTED_TEXT, "text: no snowmen", stage=Stage.PREPARE, field="text"
            )

    def synthesize(self, batch: Sequence[Utterance]) -> list[Speech | RequestError]:
        with self._lock:
            self.batches.append([utterance.text for utterance in batch])
        self.gate.wait(30)
        if any("BREAKS" in utterance.text for utterance in batch):
            raise FloatingPointError("a kernel failed")
        return [self._speak(utterance) for utterance in batch]

    def close(self) -> None:
        """There is nothing to free."""

    @property
    def spoken(self) -> list[str]:
        """Every text that was given to synthesize, in order."""
        with self._lock:
            return [text for batch in self.batches for text in batch]

    @staticmethod
    def _speak(utterance: Utterance) -> Speech | RequestError:
        if "UNREADABLE" in utterance.text:
            return RequestError(
                Code.UNSUPPORTED_TEXT, "text: unreadable", stage=Stage.SYNTHESIS, field="text"
            )
        count = int(len(utterance.text) * _RATE * 0.01 / utterance.speed) + 1
        if "SILENT" in utterance.text:
            return Speech(np.zeros(count, np.float32))
        said = f"{utterance.voice} {utterance.seed} {utterance.text}"
        digest = int.from_bytes(hashlib.sha256(said.encode()).digest()[:4], "big")
        tone = np.sin(np.arange(1, count + 1) * (0.05 + digest / 2**32)).astype(np.float32) / 2
        if "NAN" in utterance.text:
            tone[0] = np.nan
        return Speech(tone)
