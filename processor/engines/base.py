"""The seam between the pipeline and the models: what an engine declares, is given and gives back.

Knows no Kafka, no request and no file format.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from processor.errors import RequestError

__all__ = ["Capabilities", "Engine", "Samples", "Speech", "Utterance", "Voice"]

Samples = NDArray[np.float32]
"""Mono audio, shape [n], -1 to 1."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that can be asked for by name. ``version`` changes whenever its sound may."""

    name: str
    language: str
    version: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do. Requests beyond it are refused before they cost device time."""

    engine: str
    revision: str  # changes whenever the same utterance may sound different
    sample_rate: int  # samples a second
    voices: tuple[Voice, ...]  # the first is the default
    speeds: tuple[float, float]  # slowest and fastest, 1.0 is the voice's own pace
    max_segment_characters: int
    lanes: int  # calls of synthesize that may run at once, each from a thread of its own
    max_batch: int  # utterances that one call may hold
    # Whether a call costs as if all its utterances were as long as the longest. Where each row ends
    # by itself, lengths may be mixed freely.
    pads: bool = True
    batch_tolerance: float = 0.0  # largest sample difference between alone and in any batch

    @property
    def languages(self) -> tuple[str, ...]:
        """Primary tags (``en``) of all voices, each once."""
        return tuple(dict.fromkeys(voice.language.split("-")[0] for voice in self.voices))


@dataclass(frozen=True, slots=True)
class Utterance:
    """One segment to speak. All that determines its sound is here, the seed included."""

    text: str
    voice: str
    speed: float
    seed: int


@dataclass(frozen=True, slots=True)
class Speech:
    """One utterance's audio at the engine's sample rate."""

    samples: Samples


class Engine(Protocol):
    """A model, resident on its device.

    ``warm_up`` is called once, from the thread that made the engine, before any other call.
    ``check`` may then be called from any thread, ``synthesize`` from as many threads at once as
    ``lanes`` says; an engine that batches continuously declares as many lanes as it has slots.
    ``close`` is called once, when no other call is under way.
    """

    @property
    def capabilities(self) -> Capabilities:
        """Fixed for the engine's life."""
        ...

    def warm_up(self) -> None:
        """Load everything and speak once, so that the first request is not the slow one."""
        ...

    def check(self, text: str) -> None:
        """Raise RequestError (UNSUPPORTED_TEXT) if some of ``text`` would not be spoken."""
        ...

    def synthesize(self, batch: Sequence[Utterance]) -> list[Speech | RequestError]:
        """Speak each utterance of ``batch`` (1 to ``max_batch``): one result each, in order.

        An utterance's result does not depend on its batch. What is wrong with one comes back in its
        place; an exception means that the whole call failed and can be made again in parts.
        """
        ...

    def close(self) -> None:
        """Free the device."""
        ...
