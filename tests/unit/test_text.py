"""What is spoken of a text as it comes, and what is not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.text import normalise

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("raw", "spoken"),
    [
        pytest.param("cafe\u0301", "caf\u00e9", id="an-accent-joins-its-letter"),
        pytest.param("e\u200b\u0301", "\u00e9", id="also-over-something-invisible"),
        pytest.param("Ｈｅｌｌｏ　１２３", "Hello 123", id="full-width-letters-and-digits"),
        pytest.param("你好，世界！", "你好，世界！", id="full-width-punctuation-stays"),
        pytest.param("a\x00b\x07c\x7f", "abc", id="controls"),
        pytest.param("zero\u200bwidth\ufeff \u200ejoi\u200dner", "zerowidth joiner", id="no-width"),
        pytest.param("soft\u00adhyphen", "softhyphen", id="soft-hyphen"),
        pytest.param("a\ud800b\udfff", "ab", id="lone-surrogates"),
        pytest.param("a\ue000b\U0010ffffc", "abc", id="private-use-and-unassigned"),
        pytest.param("a\u00a0b\u2003c\td", "a b c d", id="every-kind-of-space"),
        pytest.param("a&#13;b&#12;c\x1cd", "a b c d", id="a-control-that-parts-words-parts-them"),
        pytest.param("Привет ไทย हिन्दी 👍", "Привет ไทย हिन्दी 👍", id="other-scripts-stay"),
        pytest.param(" \n\t\u200b ", "", id="nothing"),
    ],
)
def test_unicode_is_composed_and_what_has_no_sound_is_dropped(raw: str, spoken: str) -> None:
    assert normalise(raw) == spoken


@pytest.mark.parametrize(
    ("raw", "spoken"),
    [
        pytest.param("a <b>bold</b> word", "a bold word", id="inline"),
        pytest.param("H<sub>2</sub>O", "H2O", id="inline-parts-no-word"),
        pytest.param('<a href="https://a.b/c" class=x>here</a>', "here", id="attributes"),
        pytest.param("<p>One</p><P>Two</P>", "One\n\nTwo", id="block"),
        pytest.param("<h1>Title</h1>Text", "Title\n\nText", id="heading"),
        pytest.param("one<br>two<br/>three", "one two three", id="break"),
        pytest.param("a<!-- not <b>said</b> -->b", "ab", id="comment"),
        pytest.param("<script>if (x<y) z()</script>Hello", "Hello", id="script"),
        pytest.param('<STYLE media="x">p > a {}</STYLE>Hello', "Hello", id="style"),
        pytest.param("if a<b and c>d", "if a<b and c>d", id="less-and-greater"),
        pytest.param("x <b and c> y", "x <b and c> y", id="words-are-no-attributes"),
        pytest.param("a <unknown> tag", "a <unknown> tag", id="no-tag-of-html"),
        pytest.param("3 < 5 <!-- open", "3 < 5 <!-- open", id="an-open-comment-hides-nothing"),
        pytest.param("<script>open", "<script>open", id="an-open-script-hides-nothing"),
    ],
)
def test_html_is_markup_only_where_html_has_such_a_tag(raw: str, spoken: str) -> None:
    assert normalise(raw) == spoken


@pytest.mark.parametrize(
    ("raw", "spoken"),
    [
        ("AT&amp;T", "AT&T"),
        ("AT&amp;amp;T", "AT&T"),
        ("a &lt; b", "a < b"),
        ("it&#8217;s, it&#x2019;s", "it\u2019s, it\u2019s"),
        ("one&nbsp;two", "one two"),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
        ("Q&A, R&D; &nosuch;", "Q&A, R&D; &nosuch;"),
    ],
)
def test_entities_are_the_characters_they_stand_for(raw: str, spoken: str) -> None:
    assert normalise(raw) == spoken


@pytest.mark.parametrize(
    ("raw", "spoken"),
    [
        pytest.param("**bold** and *italic*", "bold and italic", id="stars"),
        pytest.param("__bold__ and _italic_", "bold and italic", id="underlines"),
        pytest.param("2*3*4 and snake_case_name", "2*3*4 and snake_case_name", id="within-words"),
        pytest.param("2 * 3 * 4", "2 * 3 * 4", id="between-spaces"),
        pytest.param("# Title\n\nText", "Title\n\nText", id="heading"),
        pytest.param("we are #1 # not", "we are #1 # not", id="a-hash-within-a-line"),
        pytest.param("- one\n- two\n\n> quoted", "one two\n\nquoted", id="bullets-and-quotes"),
        pytest.param("5 - 3 > 1", "5 - 3 > 1", id="minus-and-greater-within-a-line"),
        pytest.param("- # both", "both", id="a-heading-in-a-bullet"),
        pytest.param("one\n\n* * *\n\n---\n\ntwo", "one\n\ntwo", id="rules"),
        pytest.param("see [the page](https://a.b/c?d)", "see the page", id="link"),
        pytest.param("![a cat](cat.png)", "a cat", id="image"),
        pytest.param("an array[0] (first)", "an array[0] (first)", id="brackets"),
        pytest.param("run `make` now", "run make now", id="code"),
    ],
)
def test_markdown_is_read_without_its_marks(raw: str, spoken: str) -> None:
    assert normalise(raw) == spoken


@pytest.mark.parametrize(
    ("raw", "spoken"),
    [
        pytest.param("one\ntwo\r\nthree\rfour", "one two three four", id="english"),
        pytest.param("今天\n天气，\n很好", "今天天气，很好", id="chinese"),
        pytest.param("今天\nMonday\n天气", "今天 Monday 天气", id="mixed"),
        pytest.param("one \n  two", "one two", id="indented"),
        pytest.param("one\u2028two\vthree", "one two three", id="other-line-ends"),
    ],
)
def test_a_hard_wrap_is_a_space_and_nothing_between_chinese_words(raw: str, spoken: str) -> None:
    assert normalise(raw) == spoken


@pytest.mark.parametrize("between", ["\n\n", "\r\n\r\n", "\n \t\n", "\n\n\n\n", "\u2029"])
def test_paragraphs_stay_apart_by_one_blank_line(between: str) -> None:
    assert normalise(f"{between}one{between}two{between}") == "one\n\ntwo"


_FRAGMENTS = [
    *("*", "**", "_", "`", "#", "# ", "- ", "> ", "---", "[", "](x)"),
    *("&amp;", "&lt;", "&gt;", "amp;", "&#13;", "<", "<b>", "</b>", "<p>", "<!--", "-->"),
    *("a", "bc", "中", "１", "e", "\u0301", "\u3000", "\u200b", "\ud800", "\u2028", "\u2029"),
    *(" ", "\n", "\n\n", "\r\n", "\t", "\x0c"),
]
_texts = st.one_of(st.text(), st.lists(st.sampled_from(_FRAGMENTS), max_size=12).map("".join))


@given(_texts)
def test_what_is_normalised_stays_as_it_is(raw: str) -> None:
    once = normalise(raw)

    assert normalise(once) == once


@given(_texts)
def test_the_result_is_clean_whatever_comes(raw: str) -> None:
    result = normalise(raw)

    assert unicodedata.is_normalized("NFC", result)
    assert {unicodedata.category(char) for char in result.replace("\n", "")}.isdisjoint(
        {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    )
    for paragraph in result.split("\n\n") if result else ():
        assert paragraph == " ".join(paragraph.split()) != ""


@given(st.lists(st.text("abcxyzäßж中文", min_size=1), min_size=1).map(" ".join))
def test_plain_words_come_through_untouched(text: str) -> None:
    assert normalise(text) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("raw", "length"),
    [
        pytest.param("<!--" * 5000, 20_000, id="open-comments"),
        pytest.param("*" * 20_000, 20_000, id="stars"),
        pytest.param("_a" * 10_000, 20_000, id="underlines"),
        pytest.param("<b " * 7000, 20_999, id="open-tags"),
        pytest.param("<b a=" * 4000, 20_000, id="open-attributes"),
        pytest.param("<b" + " " * 20_000, 2, id="spaces-in-a-tag"),
        pytest.param("[" * 20_000, 20_000, id="brackets"),
        pytest.param("[a](" * 5000, 20_000, id="open-links"),
        pytest.param("`" * 20_000, 20_000, id="ticks"),
        pytest.param("&" * 20_000, 20_000, id="ampersands"),
        pytest.param("<script" * 3000, 21_000, id="open-scripts"),
        pytest.param("<p>" * 7000, 0, id="blocks"),
        pytest.param("\n" * 20_000 + "x", 1, id="blank-lines"),
        pytest.param(" \n" * 10_000 + "x", 1, id="blank-lines-with-spaces"),
        pytest.param("\u200b" * 20_000, 0, id="zero-width"),
    ],
)
def test_a_hostile_text_costs_no_more_than_a_long_one(raw: str, length: int) -> None:
    assert len(normalise(raw)) == length


@pytest.mark.timeout(20)
def test_marks_are_not_heaped_on_a_letter_without_end() -> None:
    """Sorting 400,000 of them, as NFC does, would take minutes."""
    result = normalise("x" + "\u0301\u0323" * 200_000 + "y")

    assert (result[0], result[-1]) == ("x", "y")
    assert len(result) == 32


@pytest.mark.timeout(20)
def test_nesting_is_followed_for_a_few_levels_only() -> None:
    text = normalise("&" + "amp;" * 100_000 + " and on")

    assert text.startswith("&amp;amp;")
    assert text.endswith("amp; and on")
