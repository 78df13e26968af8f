"""``speechmill up``: the whole pipeline on embedded parts, until Ctrl-C."""

import os
from typing import Annotated

import typer

from processor.commands.console import check_interrupted, err, interruptible, out, uninterruptible
from processor.errors import SettingsError
from processor.local.stack import Stack, threads_each
from processor.settings import UP_FILE, up_is_running


def up(
    workers: Annotated[int, typer.Option(min=0, help="How many share the topic.")] = 1,
) -> None:
    """Start a broker, an object store and workers here, and tell other commands where they are.

    In another terminal, in the same folder: speechmill submit, watch, doctor. What the broker holds
    is gone when this ends; the audio stays in .speechmill/buckets.
    """
    folder = UP_FILE.parent
    if up_is_running():
        raise SettingsError(f"`speechmill up` runs here already ({UP_FILE}); stop it first")
    UP_FILE.unlink(missing_ok=True)
    interruptible()
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
        out.print("Try, in another terminal: speechmill submit --save out 'Good morning.'")
        out.print("Ctrl-C ends all of it.")
        while True:
            check_interrupted()
            stack.check()
            stack.broker.child.wait(1.0)
    except KeyboardInterrupt:
        err.print("stopping")
    finally:
        uninterruptible()
        UP_FILE.unlink(missing_ok=True)
        stack.stop()


def _publish(stack: Stack) -> None:
    """Leave the addresses where ``settings.load`` finds them."""
    kafka = stack.settings().kafka
    UP_FILE.write_text(
        f"# pid {os.getpid()}: written by `speechmill up`, removed when it ends\n"
        f'[kafka]\nbootstrap = "{kafka.bootstrap}"\n'
        f"session_timeout_ms = {kafka.session_timeout_ms}\n"
        f'delivery = "{kafka.delivery}"\n'
        f'[store]\nendpoint = "{stack.bucket.endpoint}"\n'
    )
