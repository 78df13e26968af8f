"""Files of text to requests, one at a time: a text of any length takes bounded memory.

Owns the file formats that ``speechmill submit`` reads. Knows no broker.
"""

import codecs
import csv
import io
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from processor.errors import RequestError, SpeechmillError
from processor.events import SpeechRequest
from processor.segments import cut_point
from producers.client import make_request

__all__ = ["FORMATS", "BadLine", "DocumentError", "Options", "read_requests", "split_text"]

FORMATS = ("txt", "jsonl", "csv")
_CHUNK_BYTES = 65_536
#: The longest line of a .jsonl or .csv file, in characters: it must fit into memory.
_MAX_LINE = 4_000_000
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n\s*")


class DocumentError(SpeechmillError):
    """A file can't be read as what it is said to be; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """One entry of a file that is no request; the others are not affected."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Options:
    """What applies to every request of a file. ``fields`` fill what an entry leaves open."""

    max_characters: int = 20_000
    language: str = "en"
    document_id: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


def read_requests(
    stream: BinaryIO, name: str, kind: str, options: Options
) -> Iterator[SpeechRequest | BadLine]:
    """The requests in ``stream``, numbered in order, as they are read.

    ``kind`` is ``txt`` (a request a paragraph, long paragraphs cut at sentence ends), ``jsonl`` (a
    request object a line) or ``csv`` (a header of field names, ``output.format`` and the like
    too). Raises DocumentError if the bytes are not UTF-8, or a line is over 4,000,000 characters.
    """
    document = options.document_id or f"{Path(name).stem or 'text'}-{uuid.uuid4().hex[:8]}"
    if kind == "txt":
        paragraphs = split_text(_characters(stream, name), options.max_characters, options.language)
        entries: Iterator[tuple[str, dict[str, Any] | str]] = (
            (f"{name}: paragraph {number}", {"text": text})
            for number, text in enumerate(paragraphs, 1)
        )
    elif kind == "jsonl":
        entries = _json_lines(_lines(stream, name), name)
    elif kind == "csv":
        entries = _csv_rows(_lines(stream, name), name)
    else:
        raise DocumentError(f"{name}: {kind!r} is not read; use {', '.join(FORMATS)}")
    for index, (place, entry) in enumerate(entries):
        if isinstance(entry, str):
            yield BadLine(place, entry)
            continue
        numbered = {
            "request_id": f"{document}-{index:06d}",
            "document_id": document,
            "index": index,
        }
        try:
            yield make_request(**{**numbered, **options.fields, **entry})
        except RequestError as error:
            yield BadLine(place, error.message)


def split_text(characters: Iterator[str], limit: int, language: str) -> Iterator[str]:
    """The paragraphs of a text that comes in pieces, each of at most ``limit`` characters.

    Paragraphs end at a blank line. A longer one is cut after a sentence. What holds neither letter
    nor digit is left out. Keeps no more than ``limit`` characters and two pieces in memory.
    """
    buffer = ""
    for piece in characters:
        buffer += piece
        *whole, buffer = _BLANK_LINE.split(buffer)
        for paragraph in whole:
            yield from _fitting(paragraph, limit, language)
        while len(buffer) > limit:
            cut = cut_point(buffer, limit, language)
            yield from _speakable(buffer[:cut])
            buffer = buffer[cut:]
    yield from _fitting(buffer, limit, language)


def _fitting(paragraph: str, limit: int, language: str) -> Iterator[str]:
    while len(paragraph) > limit:
        cut = cut_point(paragraph, limit, language)
        yield from _speakable(paragraph[:cut])
        paragraph = paragraph[cut:]
    yield from _speakable(paragraph)


def _speakable(text: str) -> Iterator[str]:
    if any(char.isalnum() for char in text):
        yield text.strip()


def _characters(stream: BinaryIO, name: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line_ends = io.IncrementalNewlineDecoder(None, translate=True)  # CRLF may come in two chunks
    # read1 gives what is there: a terminal, or a slow pipe, is not asked twice for its end.
    take = getattr(stream, "read1", stream.read)
    read = 0
    chunk = b"\n"
    while chunk:
        chunk = take(_CHUNK_BYTES)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            # What the decoder held back of the chunk before is part of error.object.
            raise _not_utf8(name, read + error.start - (len(error.object) - len(chunk))) from None
        read += len(chunk)
        yield line_ends.decode(text, final=not chunk)


def _not_utf8(name: str, byte: int) -> DocumentError:
    return DocumentError(
        f"{name}: byte {byte} is not UTF-8; convert it first, "
        f"for example: iconv -f WINDOWS-1252 -t UTF-8 {name} > utf8.txt"
    )


def _lines(stream: BinaryIO, name: str) -> Iterator[str]:
    buffer = ""
    for piece in _characters(stream, name):
        buffer += piece
        *whole, buffer = buffer.split("\n")
        if len(buffer) > _MAX_LINE:
            raise DocumentError(f"{name}: a line is longer than {_MAX_LINE} characters; split it")
        for line in whole:
            yield line + "\n"
    if buffer:
        yield buffer


def _json_lines(lines: Iterator[str], name: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield place, f"not JSON: {error}"
            continue
        yield place, entry if isinstance(entry, dict) else "a line must be a JSON object"


def _csv_rows(lines: Iterator[str], name: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    csv.field_size_limit(_MAX_LINE)
    rows = csv.DictReader(lines)
    try:
        columns = rows.fieldnames or []
        if "text" not in columns and "text_uri" not in columns:
            raise DocumentError(f"{name}: the first line must name the columns, one of them 'text'")
        _refuse_overlap(columns, name)
        for row in rows:
            place = f"{name}:{rows.line_num}"
            if None in row:
                yield place, "more cells than columns; quote a text that holds a comma"
                continue
            entry: dict[str, Any] = {}
            for column, cell in row.items():
                if cell:  # an empty cell leaves the field out
                    *groups, leaf = column.split(".")
                    target = entry
                    for group in groups:
                        target = target.setdefault(group, {})
                    target[leaf] = cell
            yield place, entry
    except csv.Error as error:
        raise DocumentError(f"{name}:{rows.line_num}: {error}") from None


def _refuse_overlap(columns: Sequence[str], name: str) -> None:
    """Raise DocumentError if a column, such as ``output``, is a group of others too."""
    for column in columns:
        group = next((c for c in columns if column.startswith(f"{c}.")), None)
        if group is not None:
            raise DocumentError(f"{name}: the columns {group!r} and {column!r} overlap: keep one")
