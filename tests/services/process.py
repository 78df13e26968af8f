"""One child process of the tests: it never outlives them, and its output goes to a file.

On Linux the kernel kills the child when its parent dies, however that dies (PR_SET_PDEATHSIG),
so a killed test run leaves no broker behind. Elsewhere only an orderly exit does that.
"""

import atexit
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .errors import ServiceError

TAIL_BYTES = 8_192
"""Enough for a JVM's stack trace, short enough for a test's failure message."""

# Runs in the new process, before the service's own program takes its place. A wrapper rather than
# Popen's preexec_fn, which may deadlock where the parent has threads. PR_SET_PDEATHSIG is 1. The
# parent may be dead already when the signal is set up: then its pid is no longer ours.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@functools.cache
def _spawner() -> ThreadPoolExecutor:
    # The kernel's "parent" is the thread that forked, not the process: a child started from a
    # short-lived thread would die with it. This thread lives as long as the interpreter.
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="test-services")


class ChildProcess:
    """A running program; `kill` (or the parent's death) ends it."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path
    ) -> None:
        """Start `command` in `folder`, its standard output and errors appended to `log`."""
        argv = list(command)
        if sys.platform == "linux":
            argv = [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), *argv]
        self.log = log
        with log.open("ab") as output:
            self._popen: subprocess.Popen[bytes] = (
                _spawner()
                .submit(
                    subprocess.Popen,
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    cwd=folder,
                    start_new_session=True,  # a Ctrl-C at the terminal is for the parent alone
                )
                .result()
            )
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def wait(self, deadline: float) -> int:
        """Wait for it to end by itself, and return its exit code.

        Raises:
            ServiceError: it still ran after `deadline` seconds; it goes on.
        """
        try:
            code = self._popen.wait(deadline)
        except subprocess.TimeoutExpired as error:
            raise ServiceError(
                f"process {self.pid}: not ended within {deadline:g} s\n{self.log_tail()}"
            ) from error
        atexit.unregister(self.kill)
        return code

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut would, and reap it. Does nothing if it has ended."""
        self._popen.kill()
        self._popen.wait()
        atexit.unregister(self.kill)

    def terminate(self, deadline: float) -> bool:
        """Ask it to end (SIGTERM); SIGKILL after `deadline` seconds. Whether asking was enough."""
        self._popen.terminate()
        try:
            self._popen.wait(deadline)
            return True
        except subprocess.TimeoutExpired:
            return False
        finally:
            self.kill()

    def pause(self) -> None:
        """Stop its threads (SIGSTOP): its connections stay open, and nothing answers."""
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused one go on (SIGCONT)."""
        self._popen.send_signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """The last `TAIL_BYTES` bytes of its output, of earlier runs with the same log too."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
