"""How long a text will sound, before it is spoken: learned from what was.

Owns one rate a voice, in seconds of audio per Latin letter. Any thread may call.
"""

import threading

__all__ = ["Durations", "weigh"]

#: Before anything was heard of a voice: about a thousand letters a minute.
_GUESS_S = 0.06
#: Weight of letters that one rate remembers; what was said long ago fades.
_MEMORY = 5000.0


def weigh(text: str) -> float:
    """Length in Latin letters: a Chinese character is a syllable, about three of them."""
    return sum(3.0 if char > "\u2e7f" else 1.0 for char in text)


class Durations:
    """Predictions for one engine, better with each result."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: dict[str, tuple[float, float]] = {}  # voice → letters, seconds at speed 1

    def predict(self, text: str, voice: str, speed: float) -> float:
        """Seconds of audio that ``text`` will have, about."""
        with self._lock:
            letters, seconds = self._heard.get(voice, (1.0, _GUESS_S))
        return max(0.01, weigh(text) * seconds / letters / speed)

    def learn(self, text: str, voice: str, speed: float, seconds: float) -> None:
        """It had ``seconds``."""
        if seconds <= 0:
            return
        with self._lock:
            letters, heard = self._heard.get(voice, (0.0, 0.0))
            letters, heard = letters + weigh(text), heard + seconds * speed
            fade = min(1.0, _MEMORY / letters)
            self._heard[voice] = letters * fade, heard * fade
