"""Engine ``hibari``: small English voices on the CPU, some 150 times faster than realtime a core.

Owns what must be known of hibari-tts: it draws its noise from one generator that runs on across
sentences (so each segment gets a seed of its own), and it leaves out, without a word, what it can't
read (so text is checked first, and silence is an error).

Threads, not processes: the model and numpy release the interpreter lock. On two cores two threads
reach 1.7 times one, two processes 1.8 times, and a process more costs 470 MB (``make bench``).
"""

import hashlib
import importlib.metadata
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hibari import Hibari
from hibari.voices import DEFAULT, VOICES, voice_path

from processor.engines.base import Capabilities, Speech, Utterance, Voice
from processor.errors import Code, RequestError, Stage
from processor.settings import EngineSettings, Settings, cores

__all__ = ["HibariEngine", "create"]

_WARM_UP = "The model is warm: it has read 3 words, and 2 numbers."


class HibariEngine:
    """Implements Engine. Its sessions and its G2P hold no state between calls."""

    def __init__(self, settings: EngineSettings) -> None:
        _silence_onnxruntime()
        names = [DEFAULT, *(name for name in VOICES if name != DEFAULT and _present(name))]
        lanes = settings.threads or cores()
        self.capabilities = Capabilities(
            engine="hibari",
            revision=importlib.metadata.version("hibari-tts"),
            sample_rate=Hibari.sample_rate,
            voices=tuple(
                Voice(name, str(VOICES[name]["language"]), str(VOICES[name]["sha256"])[:16])
                for name in names
            ),
            speeds=(0.5, 2.0),
            # hibari cuts at 400 phonemes by itself, about as many characters; stay below, so that
            # the cut is ours, at a place that the completion can name.
            max_segment_characters=300,
            lanes=lanes,
            max_batch=1,
        )
        self._models: dict[str, Hibari] = {}

    def warm_up(self) -> None:
        for voice in self.capabilities.voices:
            model = Hibari(voice=voice.name, threads=1)
            model(_WARM_UP, seed=0)
            self._models[voice.name] = model

    def check(self, text: str) -> None:
        foreign = list(dict.fromkeys(c for c in text if c.isalpha() and not _latin(c)))
        if foreign:
            raise RequestError(
                Code.UNSUPPORTED_TEXT,
                f"text: hibari reads Latin letters only, not {''.join(foreign[:10])!r}; "
                "send it to an engine that speaks the language, or leave it out",
                stage=Stage.PREPARE,
                field="text",
            )

    def synthesize(self, batch: Sequence[Utterance]) -> list[Speech | RequestError]:
        return [self._speak(utterance) for utterance in batch]

    def close(self) -> None:
        self._models.clear()

    def _speak(self, utterance: Utterance) -> Speech | RequestError:
        model = self._models[utterance.voice]
        samples = np.asarray(
            model(utterance.text, speed=utterance.speed, seed=utterance.seed), dtype=np.float32
        )
        if samples.size == 0:
            return RequestError(
                Code.UNSUPPORTED_TEXT,
                "text: hibari has no sounds for a part of it; spell that part out in words",
                stage=Stage.SYNTHESIS,
                field="text",
            )
        return Speech(samples)


def create(settings: Settings) -> HibariEngine:
    return HibariEngine(settings.engine)


def _silence_onnxruntime() -> None:
    """onnxruntime (1.29 and later) reports to its maker unless told not to before it is loaded: a
    file with an identifier, and connections out. A worker has no business doing either."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")  # the name in later releases


def _present(voice: str) -> bool:
    """Whether the voice's model is here and whole: an engine never downloads while it serves."""
    try:
        path = Path(voice_path(voice, download_missing=False))
    except FileNotFoundError:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == str(VOICES[voice]["sha256"])


def _latin(char: str) -> bool:
    # NFKD: accents fall away, ligatures and letter-like signs come apart.
    return all(
        not part.isalpha() or unicodedata.name(part, "").startswith(("LATIN ", "MODIFIER LETTER "))
        for part in unicodedata.normalize("NFKD", char)
    )
