"""A service's process ends with the tests, whichever way they end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .process import ChildProcess
from .waiting import wait_until

pytestmark = pytest.mark.integration

# Starts a child from a thread that ends at once, says its pid, and stays until it is killed.
PARENT = """
import os, signal, threading
from pathlib import Path
from tests.services.process import ChildProcess

def start():
    child = ChildProcess(["sleep", "600"], Path("child.log"), os.environ, Path("."))
    print(child.pid, flush=True)

thread = threading.Thread(target=start)
thread.start()
thread.join()
signal.pause()
"""


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie, which waits for its new parent only."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_child_lives_as_long_as_its_parent_and_no_longer(tmp_path: Path) -> None:
    checkout = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child), "it outlives the thread that started it"

        parent.kill()

        wait_until(lambda: not alive(child), 10, "the child's end")


def test_a_child_that_does_not_end_when_asked_is_killed(tmp_path: Path) -> None:
    deaf = "trap '' TERM; echo ready; while :; do sleep 1; done"
    child = ChildProcess(["sh", "-c", deaf], tmp_path / "log", os.environ, tmp_path)
    wait_until(lambda: "ready" in child.log_tail(), 10, "the shell's trap")

    assert not child.terminate(0.2)
    assert not child.running


def test_a_child_that_ends_when_asked_is_not_killed(tmp_path: Path) -> None:
    child = ChildProcess(["sleep", "600"], tmp_path / "log", os.environ, tmp_path)

    assert child.terminate(10)
    assert not child.running
