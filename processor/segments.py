"""Normalised text to segments: sentences, and pieces of sentences that are too long for the engine.

Owns where a text may be cut. Sentence ends come from sentencex (rules for some 300 languages:
abbreviations, decimals, URLs, quotes, Chinese punctuation). Pure; called from any thread.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import sentencex

from processor.errors import Code, RequestError, Stage

__all__ = ["TextSegment", "cut_point", "segment"]

# Where a sentence that is too long is cut, best first. Each matches what ends a piece.
_CUTS = (
    re.compile(
        r"[;:][\"'”’)\]]*\s+"  # not "10:30", not "https://"
        r"|[—…。；：！？][\"'”’)\]]*\s*"
        r"|–(?!\d)\s*"  # not "1914–1918"
        r"|\s-\s"
    ),
    re.compile(r"[,，、][\"'”’)\]]*(?:\s+|(?<=[，、]))"),
    re.compile(r"\s+"),
    # Chinese, Japanese and Thai have no spaces: any place between two such characters will do.
    re.compile(
        r"[\u0e00-\u0e7f\u2e80-\u9fff\uf900-\ufaff]"
        r"(?=[\u0e00-\u0e7f\u2e80-\u2fff\u3040-\u9fff\uf900-\ufaff])"  # not before "。"
    ),
    # The inside of a URL or a path.
    re.compile(r"[/?&=#._+-](?=\w)"),
)


@dataclass(frozen=True, slots=True)
class TextSegment:
    """``text`` is ``normalised[start:end]``; ``last`` says that its paragraph ends with it."""

    text: str
    start: int
    end: int
    last: bool


def segment(text: str, language: str, limit: int) -> list[TextSegment]:
    """``text`` (normalised) cut into segments of at most ``limit`` code points, in order.

    All that can be spoken is in exactly one segment; what has neither letter nor digit is in none.
    Raises RequestError (TEXT_EMPTY) if nothing can be spoken, (UNSUPPORTED_TEXT) for a single word
    that is longer than ``limit``.
    """
    found: list[TextSegment] = []
    for first, paragraph in _paragraphs(text):
        pieces = [
            TextSegment(text[start:end], start, end, last=False)
            for start, end in _pieces(text, first, paragraph, language, limit)
        ]
        if pieces:
            tail = pieces[-1]
            pieces[-1] = TextSegment(tail.text, tail.start, tail.end, last=True)
        found += pieces
    if not found:
        raise RequestError(
            Code.TEXT_EMPTY,
            "text: there is nothing to say; it has neither letter nor digit",
            stage=Stage.PREPARE,
            field="text",
        )
    return found


def cut_point(text: str, limit: int, language: str) -> int:
    """Where to cut ``text`` (any text, longer than ``limit``) so that at most ``limit`` code points
    come first: after a sentence if there is one, never within a word if there is a way."""
    ends = []
    at = 0
    for sentence in sentencex.segment(language.split("-")[0].lower(), text[:limit]):
        ends.append(at)  # the last sentence may go on behind the limit, so its end does not count
        at += len(sentence)
    if ends and ends[-1] > 0:
        return ends[-1]
    return min(_best_cut(text, 0, limit) or limit, limit)


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    at = 0
    for paragraph in text.split("\n\n"):
        yield at, paragraph
        at += len(paragraph) + 2


def _pieces(
    text: str, first: int, paragraph: str, language: str, limit: int
) -> Iterator[tuple[int, int]]:
    """Where the pieces of ``paragraph``, which begins at ``first``, lie in ``text``."""
    at = first
    for sentence in sentencex.segment(language.split("-")[0].lower(), paragraph):
        begin = text.index(sentence.strip(), at)
        at = begin + len(sentence.strip())
        for start, end in _fit(text, begin, at, limit):
            if _speakable(text[start:end]):
                yield start, end


def _speakable(text: str) -> bool:
    return any(char.isalnum() for char in text)


def _fit(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """``text[start:end]`` in pieces of at most ``limit``, without the spaces between them."""
    while end - start > limit:
        cut = _best_cut(text, start, start + limit)
        if cut is None and not _speakable(text[start : start + limit]):
            cut = start + limit  # a line of asterisks: it will not be spoken, so cut it anywhere
        if cut is None:
            raise RequestError(
                Code.UNSUPPORTED_TEXT,
                f"text: {limit} characters from {start} on have no place to pause; "
                "add spaces or leave them out",
                stage=Stage.PREPARE,
                field="text",
            )
        stripped = text[start:cut].rstrip()
        yield start, start + len(stripped)
        start = cut
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield start, end


def _best_cut(text: str, start: int, stop: int) -> int | None:
    """The last place of the best kind; a poor kind beats a good one that leaves a tiny piece.

    One past ``stop`` if a space is there: what comes before it fits.
    """
    least = start + (stop - start) // 4
    fallback = None
    for kind in _CUTS:
        ends = [
            match.end()
            for match in kind.finditer(text, start, stop + 1)
            if match.end() <= stop or text[stop].isspace()
        ]
        late = [end for end in ends if end > least]
        if late:
            return late[-1]
        fallback = fallback or next((end for end in reversed(ends) if end > start), None)
    return fallback
