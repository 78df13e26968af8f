"""Files to requests: nothing lost, nothing cut in a word, a bad entry alone, memory bounded."""

import io
import json
import re
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.events import AudioFormat, SpeechRequest
from producers.documents import BadLine, DocumentError, Options, read_requests, split_text

pytestmark = pytest.mark.unit

CHUNK = 65_536  # what is read of a file at a time


def read(
    content: bytes | str, kind: str, *, name: str = "book", **options: Any
) -> list[SpeechRequest | BadLine]:
    data = content.encode() if isinstance(content, str) else content
    chosen = Options(**{"document_id": "d", **options})
    return list(read_requests(io.BytesIO(data), name, kind, chosen))


def requests(content: bytes | str, kind: str, **options: Any) -> list[SpeechRequest]:
    """Of a file that has nothing wrong in it."""
    found = read(content, kind, **options)
    sound = [entry for entry in found if isinstance(entry, SpeechRequest)]
    assert len(sound) == len(found), found
    return sound


def texts(content: bytes | str, kind: str = "txt", **options: Any) -> list[str | None]:
    return [request.text for request in requests(content, kind, **options)]


def refusal(content: bytes | str, kind: str, **options: Any) -> str:
    with pytest.raises(DocumentError) as caught:
        read(content, kind, **options)
    return str(caught.value)


def bad(content: str, kind: str) -> list[tuple[str, str]]:
    found = read(content, kind)
    return [(entry.place, entry.reason) for entry in found if isinstance(entry, BadLine)]


# --- numbering ------------------------------------------------------------------------------------


def test_requests_are_numbered_in_their_order() -> None:
    found = requests("One.\n\nTwo.", "txt")

    assert [r.request_id for r in found] == ["d-000000", "d-000001"]
    assert [r.index for r in found] == [0, 1]
    assert {r.document_id for r in found} == {"d"}


def test_the_same_document_id_gives_the_same_ids() -> None:
    text = "A sentence. " * 50

    first = requests(text, "txt", max_characters=40)

    assert [(r.request_id, r.text) for r in first] == [
        (r.request_id, r.text) for r in requests(text, "txt", max_characters=40)
    ]
    assert len(first) > 10


def test_without_a_document_id_each_reading_is_another_document() -> None:
    first, second = (
        requests("One.", "txt", name="dir/My Book.txt", document_id=None) for _ in range(2)
    )

    assert first[0].document_id != second[0].document_id
    assert re.fullmatch(r"My Book-[0-9a-f]{8}", first[0].document_id or "")


def test_options_fill_what_an_entry_leaves_open() -> None:
    lines = '{"text": "a"}\n{"text": "b", "voice": "bob", "request_id": "mine"}'

    first, second = requests(lines, "jsonl", fields={"voice": "amy", "job_id": "j"})

    assert (first.voice, first.job_id, first.request_id) == ("amy", "j", "d-000000")
    assert (second.voice, second.job_id, second.request_id) == ("bob", "j", "mine")


def test_another_kind_of_file_is_refused_with_those_that_are_read() -> None:
    assert refusal("x", "pdf") == "book: 'pdf' is not read; use txt, jsonl, csv"


# --- txt ------------------------------------------------------------------------------------------


def test_a_paragraph_is_a_request() -> None:
    assert texts("One\nline more.\n\nTwo.\n  \n\t\nThree.\n") == [
        "One\nline more.",
        "Two.",
        "Three.",
    ]


def test_what_cannot_be_spoken_is_left_out() -> None:
    assert texts("One.\n\n* * *\n\n—\n\nTwo.") == ["One.", "Two."]


@pytest.mark.parametrize("nothing", ["", "\n\n\n", "   ", "***", "\ufeff"])
def test_a_file_of_nothing_has_no_requests(nothing: str) -> None:
    assert texts(nothing) == []


def test_a_long_paragraph_is_cut_at_its_sentences() -> None:
    sentences = [f"This is sentence number {number} of the text." for number in range(20)]

    found = texts(" ".join(sentences), max_characters=100)

    assert all(text and text.endswith(".") and len(text) <= 100 for text in found)
    assert " ".join(text or "" for text in found) == " ".join(sentences)


def test_a_long_chinese_paragraph_is_cut_at_its_sentences() -> None:
    found = texts("今天天气很好。我们去公园散步吧。" * 30, max_characters=50, language="zh")

    assert all(text and text.endswith("。") and len(text) <= 50 for text in found)
    assert "".join(text or "" for text in found) == "今天天气很好。我们去公园散步吧。" * 30


def test_a_sentence_that_is_too_long_is_cut_at_a_comma_before_a_space() -> None:
    text = "one two three four, five six seven eight nine ten"

    assert texts(text, max_characters=30) == [
        "one two three four,",
        "five six seven eight nine ten",
    ]


words = st.text(st.sampled_from("abcdefgXYZäß"), min_size=1, max_size=12)
marks = st.sampled_from(["", "", "", ",", ".", "!", "?", ";"])
gaps = st.sampled_from([" ", " ", " ", "  ", "\n", "\t", "\r\n", "\n\n", "\r\n\r\n", "\n \n"])
prose = st.lists(st.tuples(words, marks, gaps).map("".join), max_size=60).map("".join)


@settings(deadline=None)
@given(prose, st.integers(20, 200), st.integers(1, 50))
def test_no_word_is_lost_or_cut_wherever_the_text_comes_in_pieces(
    text: str, limit: int, piece: int
) -> None:
    pieces = (text[at : at + piece] for at in range(0, len(text), piece))

    found = list(split_text(pieces, limit, "en"))

    assert [word for part in found for word in part.split()] == text.split()
    assert all(0 < len(part) <= limit for part in found)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.integers(1, 40))
def test_of_any_text_whatever_can_be_spoken_is_in_a_part(text: str, limit: int) -> None:
    found = list(split_text(iter([text]), limit, "en"))

    assert all(0 < len(part) <= limit for part in found)
    assert [char for part in found for char in part if char.isalnum()] == [
        char for char in text if char.isalnum()
    ]


@settings(deadline=None)
@given(prose, st.integers(1, 50))
def test_no_paragraph_runs_into_the_next(text: str, piece: int) -> None:
    pieces = (text[at : at + piece] for at in range(0, len(text), piece))

    found = list(split_text(pieces, 10_000, "en"))

    assert found == [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip(" .,;!?\n")]


def test_a_word_that_is_longer_than_the_limit_is_cut_for_want_of_a_way() -> None:
    assert texts("x" * 250, max_characters=100) == ["x" * 100, "x" * 100, "x" * 50]


# --- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_a_byte_order_mark_is_no_part_of_the_text(kind: str) -> None:
    content = {"txt": "One.", "jsonl": '{"text": "One."}', "csv": "text\nOne.\n"}[kind]

    assert texts("\ufeff" + content, kind) == ["One."]


def test_lines_may_end_as_on_windows() -> None:
    assert texts("One\r\nmore.\r\n\r\nTwo.\r\n") == ["One\nmore.", "Two."]
    assert texts('{"text": "One."}\r\n\r\n{"text": "Two."}\r\n', "jsonl") == ["One.", "Two."]
    assert texts('text,voice\r\n"One\r\nmore.",amy\r\nTwo.,\r\n', "csv") == ["One\nmore.", "Two."]


@pytest.mark.parametrize("before", range(CHUNK - 5, CHUNK + 1))
def test_a_line_end_between_two_chunks_is_one_all_the_same(before: int) -> None:
    (first, second) = texts(b"x" * before + b"\r\ny\r\n\r\nz", max_characters=100_000)

    assert first == "x" * before + "\ny"
    assert second == "z"


@pytest.mark.parametrize("before", [*range(CHUNK - 4, CHUNK + 1), 3 * CHUNK - 1])
@pytest.mark.parametrize("char", ["é", "世", "😀"])
def test_a_character_between_two_chunks_is_read(char: str, before: int) -> None:
    text = "x" * before + char

    assert texts(text, max_characters=10**6) == [text]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["no mark", "byte order mark"])
@pytest.mark.parametrize(
    "wrong", [b"\xff", b"\xc3(", b"\xe4\xb8(", b"\xf0\x9f\x98(", b"\xed\xa0\x80"]
)
@pytest.mark.parametrize("before", [0, 1, *range(CHUNK - 6, CHUNK + 3), 2 * CHUNK - 1])
def test_a_byte_that_is_not_utf8_is_named_by_its_place(
    before: int, wrong: bytes, mark: bytes
) -> None:
    content = mark + b"x" * before + wrong + b"x" * 10

    assert f"book: byte {len(mark) + before} is not UTF-8" in refusal(content, "txt")


@pytest.mark.parametrize("half", [b"\xc3", b"\xe4\xb8", b"\xf0\x9f\x98"])
@pytest.mark.parametrize("before", [1, CHUNK - 1, CHUNK, 2 * CHUNK - 2])
def test_half_a_character_at_the_end_is_named_by_its_place(before: int, half: bytes) -> None:
    assert f"book: byte {before} is not UTF-8" in refusal(b"x" * before + half, "txt")


def test_a_file_that_is_not_utf8_is_told_how_to_become_it() -> None:
    assert "iconv -f WINDOWS-1252 -t UTF-8 book" in refusal("café".encode("cp1252"), "txt")


# --- jsonl ----------------------------------------------------------------------------------------

LINES = """{"text": "One.", "output": {"format": "mp3"}, "metadata": {"page": "1"}}
not json
["a", "list"]

{"txet": "Two."}
{"text": "Three.", "speed": 9}
{"text": "Four."}
"""


def test_bad_lines_are_told_by_their_place_and_the_rest_is_delivered() -> None:
    found = read(LINES, "jsonl", name="in.jsonl")

    assert [r.text for r in found if isinstance(r, SpeechRequest)] == ["One.", "Four."]
    assert [(r.place, r.reason.split(":")[0]) for r in found if isinstance(r, BadLine)] == [
        ("in.jsonl:2", "not JSON"),
        ("in.jsonl:3", "a line must be a JSON object"),
        ("in.jsonl:5", "txet"),
        ("in.jsonl:6", "speed"),
    ]


def test_a_bad_line_takes_a_number_so_that_the_others_keep_theirs_when_it_is_mended() -> None:
    found = [entry for entry in read(LINES, "jsonl") if isinstance(entry, SpeechRequest)]

    assert [(r.request_id, r.index) for r in found] == [("d-000000", 0), ("d-000005", 5)]


def test_a_line_has_all_fields_of_a_request() -> None:
    first = read(LINES, "jsonl")[0]

    assert isinstance(first, SpeechRequest)
    assert first.output.format is AudioFormat.MP3
    assert first.metadata == {"page": "1"}


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a":' * 100_000, '{"seed": ' + "9" * 5000 + "}"])
def test_a_hostile_line_is_a_bad_line(line: str) -> None:
    ((place, reason),) = bad(line, "jsonl")

    assert place == "book:1"
    assert reason.startswith("not JSON: ")


def test_half_a_character_in_a_line_is_a_bad_line() -> None:
    ((_, reason),) = bad('{"text": "\\ud800"}', "jsonl")

    assert reason.startswith("text: ")


def test_other_line_ends_of_unicode_end_no_line() -> None:
    assert texts('{"text": "One\u2028two\u0085three"}', "jsonl") == ["One\u2028two\u0085three"]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_line_that_does_not_fit_into_memory_is_refused(kind: str) -> None:
    message = refusal(b'{"text": "' + b"x" * 4_100_000 + b'"}', kind)

    assert message == "book: a line is longer than 4000000 characters; split it"


# --- csv ------------------------------------------------------------------------------------------


def test_cells_may_hold_commas_and_line_ends_in_quotes() -> None:
    table = 'text,voice\n"Hello, ""you"".\nAgain.",amy\nTwo.,bob\n'

    found = requests(table, "csv")

    assert [(r.text, r.voice) for r in found] == [
        ('Hello, "you".\nAgain.', "amy"),
        ("Two.", "bob"),
    ]


def test_dotted_columns_are_fields_of_groups() -> None:
    table = (
        "text,output.format,output.sample_rate,output.channels,metadata.page,speed,index\n"
        "One.,mp3,24000,2,7,1.5,4\n"
    )

    (request,) = requests(table, "csv")

    assert request.output.format is AudioFormat.MP3
    assert (request.output.sample_rate, request.output.channels) == (24000, 2)
    assert (request.metadata, request.speed, request.index) == ({"page": "7"}, 1.5, 4)


def test_an_empty_cell_leaves_its_field_out() -> None:
    (request,) = requests("text,voice,output.format\nOne.,,\n", "csv")

    assert request.voice is None
    assert request.output.format is AudioFormat.WAV


def test_a_text_uri_column_will_do() -> None:
    (request,) = requests("text_uri\ns3://texts/acme/book.txt\n", "csv")

    assert request.text_uri == "s3://texts/acme/book.txt"


@pytest.mark.parametrize("table", ["", "words,voice\nOne.,amy\n", "Text\nOne.\n", "One.\nTwo.\n"])
def test_without_a_text_column_the_table_is_refused(table: str) -> None:
    assert refusal(table, "csv") == (
        "book: the first line must name the columns, one of them 'text'"
    )


@pytest.mark.parametrize("header", ["text,output,output.format", "text,output.format,output"])
def test_a_column_that_is_a_group_of_others_too_is_refused(header: str) -> None:
    message = refusal(f"{header}\nOne.,a,b\n", "csv")

    assert message == "book: the columns 'output' and 'output.format' overlap: keep one"


def test_bad_rows_are_told_by_their_line_and_the_rest_is_delivered() -> None:
    table = 'text,speed\n"One\nand more.",1\nTwo, three.,1\nFour.,fast\nFive.\n'

    found = read(table, "csv", name="in.csv")

    assert [r.text for r in found if isinstance(r, SpeechRequest)] == ["One\nand more.", "Five."]
    assert [(r.place, r.reason) for r in found if isinstance(r, BadLine)] == [
        ("in.csv:4", "more cells than columns; quote a text that holds a comma"),
        ("in.csv:5", "speed: not a number; give one"),
    ]


@pytest.mark.parametrize("start", ['text\n"', '"text'], ids=["in a row", "in the header"])
def test_a_quote_that_never_closes_does_not_fill_the_memory(start: str) -> None:
    assert "field larger than field limit (4000000)" in refusal(start + "a\n" * 2_100_000, "csv")


# --- memory ---------------------------------------------------------------------------------------


class Repeated(io.RawIOBase):
    """A file of ``head`` and then ``unit`` again and again, never in memory as a whole."""

    def __init__(self, unit: bytes, times: int, *, head: bytes = b"") -> None:
        self._unit, self._left, self._ready = unit, times, head

    def read(self, size: int = -1) -> bytes:
        missing = size - len(self._ready)
        taken = max(0, min(self._left, -(-missing // len(self._unit))))
        self._left -= taken
        data = self._ready + self._unit * taken
        self._ready = data[size:]
        return data[:size]


def peak(stream: Any, kind: str) -> tuple[int, int]:
    """How many requests came, and the most memory in bytes while each was dropped at once."""
    found = read_requests(stream, "book", kind, Options())
    tracemalloc.start()
    try:
        count = sum(isinstance(entry, SpeechRequest) for entry in found)
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


SENTENCE = "These are ten words that are said again and again. "


def test_the_generated_file_is_what_it_says() -> None:
    stream = Repeated(b"abc", 4, head=b"x")

    assert list(iter(lambda: stream.read(5), b"")) == [b"xabca", b"bcabc", b"abc"]


@pytest.mark.parametrize(
    ("unit", "least"),
    [
        (SENTENCE, 50),
        (SENTENCE * 4 + "\n\n", 4000),
        ("x", 50),
        (" ", 0),
        ("\n \r", 0),
        ("字", 50),
        ("天氣很好。", 50),
    ],
    ids=["one line", "paragraphs", "one word", "spaces", "blank lines", "a word", "chinese"],
)
def test_a_text_of_a_million_characters_takes_bounded_memory(unit: str, least: int) -> None:
    count, most = peak(Repeated(unit.encode(), 1_000_000 // len(unit) + 1), "txt")

    assert count >= least
    assert most < 3_000_000


@pytest.mark.parametrize(
    ("kind", "head", "unit"),
    [
        ("jsonl", "", json.dumps({"text": SENTENCE}) + "\n"),
        ("csv", "voice,text\n", f'amy,"{SENTENCE}"\n'),
    ],
    ids=["jsonl", "csv"],
)
def test_a_table_of_a_million_characters_takes_bounded_memory(
    kind: str, head: str, unit: str
) -> None:
    rows = 1_000_000 // len(unit)

    count, most = peak(Repeated(unit.encode(), rows, head=head.encode()), kind)

    assert count == rows
    assert most < 3_000_000
