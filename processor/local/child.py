"""A program of ours in a process of its own: started, watched, and gone when we are.

Owns the start and the end of a child process. Its output goes to a file, whose end is shown when it
fails.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from processor.errors import SpeechmillError

__all__ = ["Child", "ChildFailed", "free_port"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChildFailed(SpeechmillError):
    """A child process ended by itself; the message has the end of what it wrote."""


def free_port() -> int:
    """A loopback TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A running process in a session of its own: Ctrl-C reaches us, and we decide about it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def check(self) -> None:
        """Raise ChildFailed if the process has ended."""
        if (code := self._process.poll()) is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])
            raise ChildFailed(
                f"{self.name} ended with status {code}; the end of {self.log}:\n{tail}"
            )

    def terminate(self) -> None:
        """Ask it to end; does not wait."""
        if self._process.poll() is None:
            self._process.terminate()

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: it has no chance to tidy up."""
        self._process.kill()

    def wait(self, seconds: float) -> int | None:
        """Its exit status, or None if it still runs after ``seconds``."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, seconds: float = 10.0) -> int:
        """Ask it to end, insist after ``seconds``; its exit status."""
        self.terminate()
        status = self.wait(seconds)
        if status is None:
            self._process.kill()
            status = self._process.wait()
        return status


def _end_with_parent() -> None:
    """Have the kernel end the child when we die without a chance to (SIGKILL)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
