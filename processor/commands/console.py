"""What all commands share: where they print, and how they fail."""

import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

import typer
from rich.console import Console

from processor.settings import Settings, load

__all__ = [
    "check_interrupted",
    "err",
    "fail",
    "interruptible",
    "out",
    "settings_of",
    "uninterruptible",
]

#: Results. Not on a terminal it is as wide as it must be: a table is not to be cut in a log.
out = Console(width=None if sys.stdout.isatty() else 120, highlight=False, emoji=False)
#: Progress and complaints.
err = Console(stderr=True, highlight=False, emoji=False)


def settings_of(context: typer.Context) -> Settings:
    """The effective settings for a command."""
    return load(context.obj)


def fail(error: Exception, *, status: int) -> NoReturn:
    err.print(f"[bold red]error:[/] {type(error).__name__}: ", end="", soft_wrap=True)
    err.print(str(error), markup=False, soft_wrap=True)
    raise SystemExit(status)


#: What ends a command: Ctrl-C, `kill`, and the terminal that closes.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


_asked = threading.Event()


def interruptible() -> None:
    """Each of them is a KeyboardInterrupt from here on."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        _asked.set()
        raise KeyboardInterrupt

    for number in _ENDING:
        signal.signal(number, handle)


def check_interrupted() -> None:
    """Raise KeyboardInterrupt if one of them came: where the first one was raised in a finaliser or
    a callback, Python has dropped it."""
    if _asked.is_set():
        raise KeyboardInterrupt


def uninterruptible() -> None:
    """Tidying up goes on whatever comes: a second Ctrl-C must not leave children."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
