"""The word error rate counts words that sound different, and only those."""

from __future__ import annotations

import pytest

from tests.listening.wer import normalise, word_error_rate

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        pytest.param("Down, down, DOWN!", "down down. Down", id="case-and-punctuation"),
        pytest.param("four thousand miles", "4,000 miles", id="number"),
        pytest.param("the twenty-first of May", "the 21st of May", id="ordinal"),
        pytest.param("the colour of the grey theatre", "the color of the gray theater", id="us-uk"),
        pytest.param(
            "I don't know; they'll come", "I do not know, they will come", id="contraction"
        ),
        pytest.param("she couldn\u2019t find it", "she couldn't find it", id="curly-apostrophe"),
        pytest.param("to-night at tea-time", "tonight at tea time", id="hyphens"),
        pytest.param("help of any one", "help of anyone", id="compound"),
        pytest.param("the bookshelves fell", "the book shelves fell", id="compound-heard-apart"),
        pytest.param("I think\u2014yes\u2014so", "I think, yes, so.", id="em-dash"),
        pytest.param("Dinah (the cat) slept", "Dinah, the cat, slept", id="brackets-are-spoken"),
    ],
)
def test_texts_that_sound_the_same_have_no_error(reference: str, hypothesis: str) -> None:
    assert word_error_rate([(reference, hypothesis)]) == 0.0
    assert word_error_rate([(hypothesis, reference)]) == 0.0


@pytest.mark.parametrize(
    ("hypothesis", "errors"),
    [
        pytest.param("the white rabbit ran away", 0, id="same"),
        pytest.param("the white rabbit ran home", 1, id="substituted"),
        pytest.param("the rabbit ran away", 1, id="missing"),
        pytest.param("the white rabbit ran right away", 1, id="added"),
        pytest.param("", 5, id="nothing-heard"),
        pytest.param("white rabbit the away ran", 3, id="order"),
    ],
)
def test_each_wrong_word_is_one_error(hypothesis: str, errors: int) -> None:
    assert word_error_rate([("The white rabbit ran away.", hypothesis)]) == errors / 5


def test_set_is_weighted_by_words_and_not_by_texts() -> None:
    pairs = [("one rabbit", "one hat"), ("a b c d e f g h", "a b c d e f g h")]
    assert word_error_rate(pairs) == 1 / 10


def test_pairs_may_be_a_generator() -> None:
    assert word_error_rate((text, text) for text in ("a cat", "a bat")) == 0.0


def test_words_heard_where_none_were_said_are_errors() -> None:
    assert word_error_rate([("...", "thank you"), ("a cat sat here", "a cat sat here")]) == 2 / 4


def test_joining_compounds_does_not_hide_a_wrong_word() -> None:
    assert word_error_rate([("a head of the rest", "a bed of the rest")]) == 1 / 5
    assert word_error_rate([("in to the garden", "into a garden")]) == 1 / 3


@pytest.mark.parametrize("pairs", [[], [("", "")], [("?!", "hello")]])
def test_references_without_words_are_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match="no word"):
        word_error_rate(pairs)


def test_normalise_gives_plain_words() -> None:
    assert (
        normalise("\u201cThe  centre,\u201d (she said) \u2014 two\u2026") == "the center she said 2"
    )
