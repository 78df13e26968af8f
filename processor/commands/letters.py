"""How dead letters are shown: in a line, in a table, in full.

Owns the escaping: what a stranger wrote reaches the terminal as text and as nothing else.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any

from rich.table import Table
from rich.text import Text

from processor.commands.console import out
from producers.letters import Letter

__all__ = ["counted", "hexdump", "print_letter", "print_letters", "printable", "say"]

#: Rows of the table that are held at once: the topic may hold more than memory does.
_PAGE = 50
#: Of a value that can't be decoded, in bytes.
_DUMPED = 256


def printable(text: str | None) -> str:
    """``text`` with all that could steer a terminal, or mislead its reader, escaped."""
    if text is None:
        return "-"
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def hexdump(data: bytes) -> Iterator[str]:
    """The first bytes, sixteen a line, with their ASCII beside them."""
    for start in range(0, min(len(data), _DUMPED), 16):
        part = data[start : min(start + 16, _DUMPED)]
        plain = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{start:08x}  {part.hex(' '):<47}  {plain}"
    if len(data) > _DUMPED:
        yield f"… {len(data) - _DUMPED} bytes more"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def print_letters(letters: Iterator[Letter], *, as_json: bool) -> int:
    """All of them, as they come; how many there were."""
    count = 0
    if out.is_terminal and not as_json:
        while page := list(islice(letters, _PAGE)):
            out.print(_table(page, header=not count))
            count += len(page)
        return count
    for letter in letters:
        say(json.dumps(_fields(letter)) if as_json else "  ".join(_row(letter)))
        count += 1
    return count


def _table(page: list[Letter], *, header: bool) -> Table:
    """One page; its widths do not depend on what is in it, so that pages line up."""
    table = Table(box=None, pad_edge=False, show_header=header, expand=True)
    table.add_column("letter", width=9, overflow="fold")
    table.add_column("time", width=20, no_wrap=True)
    table.add_column("code", width=14, overflow="fold")
    table.add_column("tenant", ratio=2, overflow="fold")
    table.add_column("request", ratio=3, overflow="fold")
    table.add_column("message", ratio=6)
    for letter in page:
        table.add_row(*map(Text, _row(letter)))
    return table


def _row(letter: Letter) -> tuple[str, ...]:
    told = (letter.reason.code, letter.tenant, letter.request_id, letter.reason.message)
    return (str(letter.place), _time(letter.timestamp), *map(printable, told))


def _fields(letter: Letter) -> dict[str, Any]:
    reason = letter.reason
    return {
        "letter": str(letter.place),
        "partition": letter.place.partition,
        "offset": letter.place.offset,
        "timestamp": letter.timestamp and letter.timestamp.isoformat(),
        "code": reason.code,
        "field": reason.field,
        "message": reason.message,
        "stage": reason.stage,
        "source": {
            "topic": reason.topic,
            "partition": reason.partition,
            "offset": reason.offset,
        },
        "tenant": letter.tenant,
        "request_id": letter.request_id,
        "replayed": letter.replayed,
        "bytes": None if letter.value is None else len(letter.value),
    }


def print_letter(letter: Letter, topic: str) -> None:
    reason = letter.reason
    origin = f"{printable(reason.topic)} {reason.partition}:{reason.offset}"
    _line("letter", f"{topic} {letter.place}")
    _line("time", _time(letter.timestamp))
    _line("came from", origin if reason.topic else "-")
    for name in ("code", "field", "message", "stage"):
        _line(name, printable(getattr(reason, name)))
    _line("replayed", counted(letter.replayed, "time"))
    _line("tenant", printable(letter.tenant))
    _line("request", printable(letter.request_id))
    _line("key", _plain(letter.key))
    _line("headers", "" if letter.headers else "none")
    for name, value in letter.headers:
        _line(f"  {printable(name)}", _plain(value))
    _line("value", _size(letter))
    for line in _value(letter):
        say(f"  {line}")


def _line(name: str, value: str) -> None:
    say(f"{name:<12}{value}".rstrip())


def say(line: str) -> None:
    """One line as it is: no markup, and no ``:name:`` made into a picture."""
    out.print(line, markup=False, emoji=False, soft_wrap=True)


def _size(letter: Letter) -> str:
    if letter.omitted:
        return "left out, as it was too large for the topic"
    return "none" if letter.value is None else counted(len(letter.value), "byte")


def _value(letter: Letter) -> Iterable[str]:
    """The event as JSON, as far as it can be decoded; otherwise its first bytes."""
    if letter.event is not None:
        with suppress(RecursionError):  # JSON may be nested more deeply than can be written
            text = json.dumps(letter.event, ensure_ascii=False, indent=2, default=str)
            return map(printable, text.split("\n"))
    return hexdump(letter.value or b"")


def _plain(raw: bytes | None) -> str:
    """Bytes that are mostly text; what is none is escaped."""
    return "-" if raw is None else printable(raw.decode(errors="backslashreplace"))


def _time(when: datetime | None) -> str:
    return "-" if when is None else f"{when:%Y-%m-%dT%H:%M:%SZ}"
