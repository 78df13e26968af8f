"""``speechmill up``: the whole pipeline on embedded parts, until Ctrl-C."""

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from processor.commands.console import err, out
from processor.errors import SettingsError
from processor.local.stack import Stack, threads_each
from processor.settings import UP_FILE


def up(
    workers: Annotated[int, typer.Option(min=0, help="How many share the topic.")] = 1,
) -> None:
    """Start a broker, an object store and workers here, and tell other commands where they are.

    In another terminal, in the same folder: speechmill submit, watch, doctor. What the broker holds
    is gone when this ends; the audio stays in .speechmill/buckets.
    """
    folder = UP_FILE.parent
    if UP_FILE.exists() and _alive(UP_FILE):
        raise SettingsError(f"`speechmill up` runs here already ({UP_FILE}); stop it first")
    UP_FILE.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends it as Ctrl-C does
    stack = Stack(folder)
    try:
        for number in range(workers):
            stack.add_worker(
                f"worker-{number}", {"SPEECHMILL_ENGINE__THREADS": str(threads_each(workers))}
            )
        _publish(stack)
        out.print(f"broker        {stack.broker.bootstrap}")
        out.print(f"object store  {stack.bucket.endpoint}, files in {stack.bucket.root}")
        out.print(f"workers       {workers}, logs in {folder}")
        out.print("Try: speechmill submit --wait 'Good morning.'     Ctrl-C ends all of it.")
        while True:
            stack.check()
            stack.broker.child.wait(1.0)
    except KeyboardInterrupt:
        err.print("stopping")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave children
        UP_FILE.unlink(missing_ok=True)
        stack.stop()


def _publish(stack: Stack) -> None:
    """Leave the addresses where ``settings.load`` finds them."""
    kafka = stack.settings().kafka
    UP_FILE.write_text(
        f"# pid {os.getpid()}: written by `speechmill up`, removed when it ends\n"
        f'[kafka]\nbootstrap = "{kafka.bootstrap}"\n'
        f"session_timeout_ms = {kafka.session_timeout_ms}\n"
        f'[store]\nendpoint = "{stack.bucket.endpoint}"\n'
    )


def _alive(file: Path) -> bool:
    pid = file.read_text().split(":", 1)[0].removeprefix("# pid ")
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
