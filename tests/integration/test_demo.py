"""``speechmill demo`` and ``up`` as a newcomer runs them."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import soundfile

from tests.waiting import eventually

pytestmark = pytest.mark.integration


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "processor", "demo", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "TMPDIR": str(folder)},
        check=False,
    )


def leftovers(folder: Path) -> list[str]:
    """Processes that name ``folder``: what a demo there has left running."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue  # it ended, or is another user's
            if str(folder).encode() in environment:
                found.append(entry.name)
    return found


def test_the_demo_speaks_a_text_and_leaves_nothing_but_the_audio(tmp_path: Path) -> None:
    done = demo(tmp_path, "--text", "Once upon a time. There was a mill.", "--workers", "1")

    assert done.returncode == 0, done.stderr
    assert "1 texts" in done.stdout
    assert soundfile.info(tmp_path / ".speechmill/demo/whole.wav").duration > 1
    assert [path.name for path in tmp_path.iterdir()] == [".speechmill"]
    assert leftovers(tmp_path) == []


def test_the_demo_speaks_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("The first paragraph.\n\nThe second paragraph.")

    done = demo(tmp_path, "--file", "own.txt")

    assert done.returncode == 0, done.stderr
    assert "2 texts" in done.stdout


def test_the_demo_says_what_failed(tmp_path: Path) -> None:
    done = demo(tmp_path, "--text", "你好", "--workers", "1")

    assert done.returncode == 1
    assert "1 of 1 failed" in done.stderr
    assert "Latin letters" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_stops_cleanly_when_it_is_interrupted(tmp_path: Path, number: int) -> None:
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "processor", "demo"],
            cwd=tmp_path,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        eventually(lambda: list(tmp_path.glob("speechmill-demo-*/worker-1.log")), "two workers")
        process.send_signal(number)
        assert process.wait(30) == 130
    assert leftovers(tmp_path) == []
    assert not list(tmp_path.glob("speechmill-demo-*"))


def test_up_leads_other_commands_to_its_parts(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    mill = [sys.executable, "-m", "processor"]
    up = subprocess.Popen([*mill, "up"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    try:
        eventually((tmp_path / ".speechmill/up.toml").is_file, "the addresses")
        second = subprocess.run(
            [*mill, "up"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        spoken = subprocess.run(
            [*mill, "submit", "--wait", "--save", "out", "Good morning."],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0

    assert second.returncode == 2
    assert "runs here already" in second.stderr
    assert spoken.returncode == 0, spoken.stderr
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert list((tmp_path / ".speechmill/buckets/speech").rglob("*.wav")), "plain files remain"
    assert not (tmp_path / ".speechmill/up.toml").exists()
    assert leftovers(tmp_path) == []
