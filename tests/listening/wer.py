"""Word error rate between texts and what a recogniser heard, fair to English speech.

Two texts that sound the same count as the same: letter case, punctuation, figures or number
words, British or American spelling, contractions, and whether a compound is written as one
word, two words or with a hyphen make no difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

import jiwer
from whisper_normalizer.english import (  # type: ignore[import-untyped]
    EnglishTextNormalizer,
)

_ENGLISH = EnglishTextNormalizer()
# The normaliser below drops bracketed words as a transcriber's remarks; here they are spoken.
_BRACKETS = re.compile(r"[()\[\]<>]")
# It keeps full stops that may be decimal points, among them those of an ellipsis.
_ELLIPSIS = re.compile(r"\u2026|\.{2,}")
_APOSTROPHES = str.maketrans({"\u2018": "'", "\u2019": "'"})


def normalise(text: str) -> str:
    """Return the text's words in a plain common form, separated by single spaces."""
    spoken = _ELLIPSIS.sub(" ", _BRACKETS.sub(" ", text.translate(_APOSTROPHES)))
    return str(_ENGLISH(spoken)).strip()


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Return the word error rate over a whole set of texts.

    Args:
        pairs: (reference, hypothesis) texts: what was to be said, and what was heard.

    Returns:
        Substituted, missing and added words of all pairs, divided by the number of reference
        words of all pairs; a fraction (0.05 is 5 %), above 1 when far too much was heard.

    Raises:
        ValueError: the references hold no word.
    """
    errors = 0
    reference_words = 0
    for reference, hypothesis in pairs:
        pair_errors, pair_words = _errors(reference, hypothesis)
        errors += pair_errors
        reference_words += pair_words
    if reference_words == 0:
        raise ValueError("the references hold no word")
    return errors / reference_words


def _errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Return (wrong words, reference words) of one pair of texts."""
    expected, heard = _join_compounds(normalise(reference).split(), normalise(hypothesis).split())
    if not expected:
        return len(heard), 0
    found = jiwer.process_words(" ".join(expected), " ".join(heard))
    return found.substitutions + found.deletions + found.insertions, len(expected)


def _join_compounds(first: list[str], second: list[str]) -> tuple[list[str], list[str]]:
    """Write as one word, in both texts, each two words that the other text has as one."""
    words_first, words_second = set(first), set(second)
    compounds = {
        (left, right)
        for words, other in ((first, words_second), (second, words_first))
        for left, right in pairwise(words)
        if left.isalpha() and right.isalpha() and left + right in other
    }
    return _join(first, compounds), _join(second, compounds)


def _join(words: list[str], compounds: set[tuple[str, str]]) -> list[str]:
    """Return the words with each adjacent pair that is in ``compounds`` written as one."""
    joined: list[str] = []
    position = 0
    while position < len(words):
        if tuple(words[position : position + 2]) in compounds:
            joined.append(words[position] + words[position + 1])
            position += 2
        else:
            joined.append(words[position])
            position += 1
    return joined
