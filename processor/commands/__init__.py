"""The command line: one file a command. The top of the house: everything may be imported here."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from processor import __version__
from processor.commands import (
    bench,
    calibrate,
    deadletters,
    demo,
    doctor,
    submit,
    topics,
    up,
    watch,
    worker,
)
from processor.commands.console import fail
from processor.errors import SettingsError, SpeechmillError
from processor.telemetry import quieten

__all__ = ["app", "main"]

app = typer.Typer(
    name="speechmill",
    help="Text events in, speech out, through Kafka.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"speechmill {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    settings: Annotated[
        Path | None,
        typer.Option(help="Settings file (TOML). Default: speechmill.toml, if there is one."),
    ] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    quieten()
    context.obj = settings


app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("submit")(submit.submit)
app.command("watch")(watch.watch)
app.command("worker")(worker.worker)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(topics.app, name="topics")
app.add_typer(deadletters.app, name="deadletters")


def main() -> None:
    """Run the command line; an error of ours is one line on standard error, and a status."""
    try:
        app()
    except SettingsError as error:
        fail(error, status=2)
    except SpeechmillError as error:
        fail(error, status=1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `speechmill watch | head`
        sys.exit(0)
    except OSError as error:  # a file that can't be read, a folder that can't be made
        fail(error, status=1)
