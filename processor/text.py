"""Text as it comes to text as it is spoken: Unicode, control characters, markup, white space.

Owns what ``normalise`` removes and keeps. Pure functions of linear time, so that a hostile text
costs no more than a long one. Numbers and abbreviations are left to the engine, which knows its
language. Knows nothing of sentences (segments).
"""

import html
import re
import unicodedata

__all__ = ["normalise"]

# Only tags that HTML has are markup: "if a<b and c>d" must keep its "b and c".
_BLOCK = (
    "address|article|aside|blockquote|body|dd|div|dl|dt|figcaption|figure|footer|form|h[1-6]|head|"
    "header|hr|html|li|main|nav|ol|p|pre|section|table|tbody|td|tfoot|th|thead|title|tr|ul"
)
_INLINE = (
    "a|abbr|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|img|ins|kbd|label|link|mark|meta|q|s|"
    "samp|small|span|strong|sub|sup|time|tt|u|var"
)
# Each attribute must have a value, or the words of "<b and c>" would pass for attributes.
_ATTRIBUTES = r"""(?:\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+))*\s*/?"""
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCK}){_ATTRIBUTES}>", re.IGNORECASE)
_BREAK_TAG = re.compile(r"<(?:br|wbr)\s*/?>", re.IGNORECASE)
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE}){_ATTRIBUTES}>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")

# Markdown. Bounded repetitions: an unclosed mark must not make the search quadratic.
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+", re.MULTILINE)
_BULLET = re.compile(r"^[ \t]{0,8}(?:[-*+•]|>)[ \t]+", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:[-*_=][ \t]*){3,40}$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\[\]\n]{0,500})\]\([^()\s]{1,1000}\)")
_CODE = re.compile(r"`{1,3}([^`]{1,1000})`{1,3}")
_STRONG = re.compile(r"(?<![\w*])(\*\*|\*)(?=\S)([^*\n]{1,500})(?<=\S)\1(?![\w*])")
_UNDERLINE = re.compile(r"(?<!\w)(__|_)(?=\S)([^_\n]{1,500})(?<=\S)\1(?!\w)")

_FULL_WIDTH = {
    code: code - 0xFEE0
    for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))
}
_LINE_ENDS = re.compile(r"\r\n?|[\u2028\u0085\v\f]")
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*|\u2029\s*")
_SPACES = re.compile(r"[^\S\n]+")
# NFC sorts the marks on a letter, which takes the square of their number. Unicode's Stream-Safe
# Text Format (UAX #15) allows 30; no language needs more than a few.
_MARKS = 30
_MANY_MARKS = re.compile(rf"[^\w\s\x00-\u02ff]{{{_MARKS + 1},}}")
_WIDE = r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
_WRAP_WIDE = re.compile(rf"(?<={_WIDE})[ \t]*\n[ \t]*(?={_WIDE})")

# What is taken away may lay bare more of its kind ("- # A heading"). Nobody writes five deep; the
# bound keeps "&amp;amp;amp;..." from taking a pass for each level.
_PASSES = 8


def normalise(text: str) -> str:
    """``text`` in NFC, without controls and markup; one space between words, ``\\n\\n`` between
    paragraphs. Idempotent for markup up to eight deep. May return an empty string."""
    for _ in range(_PASSES):
        before, text = text, _normalise_once(text)
        if text == before:
            break
    return text


def _normalise_once(text: str) -> str:
    text = _clean_markup(_LINE_ENDS.sub("\n", text)).translate(_FULL_WIDTH)
    text = "".join(_visible(char) for char in text)
    text = unicodedata.normalize("NFC", _MANY_MARKS.sub(_fewer_marks, text))
    paragraphs = (_unwrap(part) for part in _PARAGRAPH.split(text))
    return "\n\n".join(part for part in paragraphs if part)


def _clean_markup(text: str) -> str:
    if "<" in text:
        text = _drop_between(text, "<!--", "-->")
        for tag in ("script", "style"):
            text = _drop_between(text, f"<{tag}", f"</{tag}>")
        text = _BLOCK_TAG.sub("\n\n", text)
        text = _BREAK_TAG.sub(" ", text)
        text = _INLINE_TAG.sub("", text)
    text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = _RULE.sub("", text)
    text = _HEADING.sub("", text)
    text = _BULLET.sub("", text)
    text = _LINK.sub(r"\1", text)
    text = _CODE.sub(r"\1", text)
    text = _STRONG.sub(r"\2", text)
    return _UNDERLINE.sub(r"\2", text)


def _drop_between(text: str, start: str, end: str) -> str:
    """``text`` without each ``start…end``; an unclosed start is left alone."""
    lower = text.lower() if len(text.lower()) == len(text) else text
    kept, at = [], 0
    while (opened := lower.find(start, at)) >= 0 and (closed := lower.find(end, opened)) >= 0:
        kept.append(text[at:opened])
        at = closed + len(end)
    return "".join(kept) + text[at:]


def _visible(char: str) -> str:
    """The character, a space for a separator, nothing for what has no sound and no width."""
    if char == "\n":
        return char
    category = unicodedata.category(char)
    if category in ("Cc", "Cf", "Cs", "Co", "Cn"):
        return " " if char.isspace() else ""
    return " " if category == "Zs" else "\n" if category == "Zl" else char


def _fewer_marks(match: re.Match[str]) -> str:
    kept, marks = [], 0
    for char in match[0]:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= _MARKS:
            kept.append(char)
    return "".join(kept)


def _unwrap(paragraph: str) -> str:
    """One paragraph on one line: a line's end is a space, but nothing between Chinese words."""
    joined = _WRAP_WIDE.sub("", paragraph.strip())
    return _SPACES.sub(" ", joined.replace("\n", " ")).strip()
