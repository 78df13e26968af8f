"""What all commands share: where they print, and how they fail."""

import sys
from typing import NoReturn

import typer
from rich.console import Console

from processor.settings import Settings, load

__all__ = ["err", "fail", "out", "settings_of"]

#: Results. Not on a terminal it is as wide as it must be: a table is not to be cut in a log.
out = Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=False)
#: Progress and complaints.
err = Console(stderr=True, highlight=False)


def settings_of(context: typer.Context) -> Settings:
    """The effective settings for a command."""
    return load(context.obj)


def fail(error: Exception, *, status: int) -> NoReturn:
    err.print(f"[bold red]error:[/] {type(error).__name__}: ", end="", soft_wrap=True)
    err.print(str(error), markup=False, soft_wrap=True)
    raise SystemExit(status)
