"""Where a text may be cut, and where it never is."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.errors import Code, RequestError
from processor.segments import TextSegment, cut_point, segment

pytestmark = pytest.mark.unit


def spoken(text: str, language: str = "en", limit: int = 200) -> list[str]:
    return [part.text for part in segment(text, language, limit)]


def sound(text: str) -> str:
    """The letters and digits: what must not be lost."""
    return "".join(char for char in text if char.isalnum())


@pytest.mark.parametrize(
    "sentences",
    [
        pytest.param(["He left.", "She stayed!", "Did they?", "Yes."], id="plain"),
        pytest.param(["Dr. Smith met Mrs. Jones.", "It rained."], id="titles"),
        pytest.param(["They came at 5 p.m. on Jan. 5.", "It rained."], id="abbreviations"),
        pytest.param(["It costs 3.14 dollars.", "Or $1,000.50."], id="decimals"),
        pytest.param(["See https://example.com/a.b?c=d.", "Then go."], id="url"),
        pytest.param(["He said “Go now.”", "Then he left."], id="quotes"),
        pytest.param(['He asked "Why?" and left.', "Nobody knew."], id="a-question-within"),
        pytest.param(["Wait... what?", "Yes!"], id="an-ellipsis-within"),
        pytest.param(["J. R. Tolkien wrote it.", "I read it."], id="initials"),
    ],
)
def test_english_sentences_end_where_a_reader_pauses(sentences: list[str]) -> None:
    assert spoken(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        pytest.param(["今天天气很好。", "我们去吗？", "走吧！"], id="plain"),
        pytest.param(["“你好。”", "他说。", "然后走了。"], id="quotes"),
        pytest.param(["好……走吧。", "再见。"], id="an-ellipsis-within"),
        pytest.param(["价格是3.14元。", "便宜。"], id="decimals"),
    ],
)
def test_chinese_sentences_end_at_their_own_marks(sentences: list[str]) -> None:
    assert spoken("".join(sentences), "zh") == sentences


def test_a_language_tag_may_have_a_region_and_any_case() -> None:
    assert spoken("Dr. Smith left. He ran.", "EN-gb") == ["Dr. Smith left.", "He ran."]


def test_the_last_segment_of_each_paragraph_says_so() -> None:
    parts = segment("One. Two.\n\nThree.\n\n***\n\nFour. ...", "en", 200)

    assert [(part.text, part.last) for part in parts] == [
        ("One.", False),
        ("Two.", True),
        ("Three.", True),
        ("Four.", True),
    ]


def test_the_same_sentence_twice_is_found_in_both_places() -> None:
    assert segment("Go! Go!\n\nGo!", "en", 200) == [
        TextSegment("Go!", 0, 3, last=False),
        TextSegment("Go!", 4, 7, last=True),
        TextSegment("Go!", 9, 12, last=True),
    ]


@pytest.mark.parametrize(
    ("text", "language", "limit", "pieces"),
    [
        pytest.param(
            "we came, we saw; we won the day", "en", 20, ["we came, we saw;", "we won the day"],
            id="a-semicolon-before-a-comma",
        ),
        pytest.param(
            "we came to see, then we won", "en", 20, ["we came to see,", "then we won"],
            id="a-comma-before-a-space",
        ),
        pytest.param("one two three", "en", 8, ["one two", "three"], id="a-space"),
        pytest.param("on, and on it went", "en", 16, ["on, and on it", "went"], id="no-tiny-piece"),
        pytest.param("four four", "en", 4, ["four", "four"], id="words-that-just-fit"),
        pytest.param("他来了，他看了", "zh", 5, ["他来了，", "他看了"], id="a-chinese-comma"),
        pytest.param("一二三四五六七", "zh", 3, ["一二三", "四五六", "七"], id="between-chinese"),
        pytest.param("一二三、四", "zh", 3, ["一二", "三、四"], id="no-mark-begins-a-piece"),
        pytest.param(
            "he left town at 10:30 today", "en", 20, ["he left town at", "10:30 today"],
            id="not-within-a-time",
        ),
        pytest.param(
            "the war of 1914–1918 was long", "en", 18, ["the war of", "1914–1918 was long"],
            id="not-within-a-range",
        ),
        pytest.param(
            "look at https://a.example now", "en", 17, ["look at", "https://a.example", "now"],
            id="not-within-an-address-that-fits",
        ),
        pytest.param(
            "https://a.example/bcd/efg?h=i", "en", 20, ["https://a.example/", "bcd/efg?h=i"],
            id="within-an-address-only-if-it-must-be",
        ),
    ],
)  # fmt: skip
def test_a_sentence_that_is_too_long_is_cut_at_the_best_place(
    text: str, language: str, limit: int, pieces: list[str]
) -> None:
    assert spoken(text, language, limit) == pieces


_words = st.text("abcdeéßж0123", min_size=1, max_size=12)
_endings = st.sampled_from(["", "", "", ",", ";", ":", ".", "!", "?", "...", "”", ".”", " —", " -"])
_prose = st.lists(st.tuples(_words, _endings, st.sampled_from([" ", " ", " ", "\n\n"])), min_size=1)
_chinese = st.lists(
    st.text("天地人你我他好了的一二三", min_size=1).flatmap(
        lambda words: st.sampled_from(["", "，", "、", "。", "！", "？”", "；", "……"]).map(
            lambda mark: words + mark
        )
    ),
    min_size=1,
).map("".join)


def prose(parts: list[tuple[str, str, str]]) -> str:
    return "".join(word + ending + space for word, ending, space in parts).strip()


def check(text: str, limit: int, parts: list[TextSegment]) -> None:
    """What holds of every text that can be cut."""
    assert [part.text for part in parts] == [text[part.start : part.end] for part in parts]
    assert all(0 < len(part.text) <= limit for part in parts)
    assert all(part.text == part.text.strip() and sound(part.text) for part in parts)
    assert all(one.end <= other.start for one, other in pairwise(parts))
    assert sound("".join(part.text for part in parts)) == sound(text)
    assert parts[-1].last


@given(_prose, st.integers(16, 80))
def test_a_sentence_is_never_cut_within_a_word(
    words: list[tuple[str, str, str]], limit: int
) -> None:
    text = prose(words)
    parts = segment(text, "en", limit)

    check(text, limit, parts)
    # A word with its mark is at most 15 characters, so it always fits.
    said = [word for part in parts for word in part.text.split()]
    assert [word for word in said if sound(word)] == [word for word in text.split() if sound(word)]


@given(_prose, st.integers(16, 80))
def test_no_segment_holds_words_of_two_paragraphs(
    words: list[tuple[str, str, str]], limit: int
) -> None:
    text = prose(words)
    parts = segment(text, "en", limit)

    assert not any("\n" in part.text for part in parts)
    assert sum(part.last for part in parts) == len([p for p in text.split("\n\n") if sound(p)])


@given(_chinese, st.integers(8, 40))
def test_chinese_is_cut_between_any_two_characters_if_it_must_be(text: str, limit: int) -> None:
    check(text, limit, segment(text, "zh", limit))


def test_chinese_without_any_punctuation_is_cut() -> None:
    text = "天地玄黄宇宙洪荒" * 100

    parts = segment(text, "zh", 60)

    check(text, 60, parts)
    assert len(parts) == 14


@pytest.mark.parametrize(
    "text", ["", "...", "***\n\n---", "👍 🎉", "?!。，", "*" * 1000, "— " * 500]
)
def test_a_text_with_neither_letter_nor_digit_is_refused_as_empty(text: str) -> None:
    with pytest.raises(RequestError, match="nothing to say") as caught:
        segment(text, "en", 100)

    assert (caught.value.code, caught.value.field) == (Code.TEXT_EMPTY, "text")


def test_a_long_line_of_asterisks_is_no_reason_to_refuse_the_rest() -> None:
    assert spoken("Before.\n\n" + "*" * 1000 + "\n\nAfter.", limit=100) == ["Before.", "After."]


@pytest.mark.parametrize("before", ["", "Some words. ", "A paragraph.\n\n"])
def test_a_word_of_a_thousand_letters_is_refused_and_its_place_named(before: str) -> None:
    with pytest.raises(RequestError, match=rf"from {len(before)} on\b") as caught:
        segment(before + "a" * 1000, "en", 400)

    assert (caught.value.code, caught.value.field) == (Code.UNSUPPORTED_TEXT, "text")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["a " * 100_000, "一" * 200_000, "a.b/" * 50_000, "a? " * 60_000])
def test_a_book_without_paragraphs_is_cut_in_one_go(text: str) -> None:
    check(text, 400, segment(text, "en", 400))


def test_a_text_is_parted_after_a_sentence() -> None:
    text = "One is here. Two is there. Three is nowhere to be found."

    assert text[: cut_point(text, 40, "en")] == "One is here. Two is there. "


def test_a_text_of_one_long_sentence_is_parted_where_it_may_pause() -> None:
    text = "we came and saw, and then we went away again"

    assert text[: cut_point(text, 24, "en")] == "we came and saw, "


def test_a_text_without_a_place_to_pause_is_parted_at_the_limit() -> None:
    assert cut_point("a" * 100, 30, "en") == 30


@given(_prose.map(prose), st.integers(16, 80))
def test_a_text_is_parted_within_the_limit_and_not_within_a_word(text: str, limit: int) -> None:
    text += " end" * limit  # so that it is longer than the limit

    cut = cut_point(text, limit, "en")

    assert 0 < cut <= limit
    assert not (text[cut - 1].isalnum() and text[cut].isalnum())


@given(_chinese, st.integers(1, 10))
def test_parting_a_text_comes_to_an_end(text: str, limit: int) -> None:
    pieces = []
    left = text
    while len(left) > limit:
        cut = cut_point(left, limit, "zh")
        pieces.append(left[:cut])
        left = left[cut:]

    assert "".join([*pieces, left]) == text
    assert all(0 < len(piece) <= limit for piece in pieces)
