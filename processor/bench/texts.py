"""Texts to speak: synthetic ones of stated lengths, or a file's paragraphs in turn.

Two runs with one seed have the same texts.
"""

import math
import random
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import cycle

from processor.bench.plan import Lengths, Plan

__all__ = ["draw_length", "synthetic", "texts"]

#: Shorter is hardly a sentence; longer, no event may be with default settings.
_SHORTEST, _LONGEST = 10, 20_000
_WORDS_IN_A_SENTENCE = (6, 16)


def texts(plan: Plan) -> Iterator[str]:
    """One for each request, without end."""
    return cycle(plan.texts) if plan.texts else synthetic(plan.lengths, plan.seed)


def synthetic(lengths: Lengths, seed: int) -> Iterator[str]:
    """English words in the shape of sentences, without end; each text as long as is drawn for it,
    give or take half a word."""
    dice = random.Random(seed)  # noqa: S311 - a mix, not a secret
    words = _words()
    while True:
        yield _compose(dice, words, draw_length(dice, lengths))


def draw_length(dice: random.Random, lengths: Lengths) -> int:
    """Characters of one text."""
    drawn = lengths.median * math.exp(math.log(lengths.spread) * dice.gauss(0, 1))
    return round(min(max(drawn, _SHORTEST), _LONGEST))


def _compose(dice: random.Random, words: Sequence[str], length: int) -> str:
    parts: list[str] = []
    size = 0
    left = 0
    while True:
        word = dice.choice(words)
        grown = size + len(word) + 1  # a space, or at the end the full stop
        if parts and grown - length > length - size:
            break
        if left == 0:
            if parts:
                parts[-1] += "."
                grown += 1
            word = word.capitalize()
            left = dice.randint(*_WORDS_IN_A_SENTENCE)
        parts.append(word)
        size = grown
        left -= 1
        if size >= length:
            break
    return " ".join(parts) + "."


@cache
def _words() -> tuple[str, ...]:
    """The demo's words, each as often as it is there: real English, at English frequencies."""
    text = files("processor.local").joinpath("demo.txt").read_text("utf-8").lower()
    return tuple(word for word in re.findall(r"[a-z]+", text) if len(word) > 1 or word in "ai")
