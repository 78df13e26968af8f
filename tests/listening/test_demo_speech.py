"""The demo's audio is speech: an offline recogniser hears the text that was sent."""

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import soundfile

from tests.listening.recogniser import Recogniser
from tests.listening.wer import word_error_rate

pytestmark = pytest.mark.listening

#: Every third paragraph: enough words for a rate, and half a minute of listening.
HEARD = range(0, 41, 3)


@pytest.fixture(scope="module")
def paragraphs() -> list[str]:
    text = files("processor.local").joinpath("demo.txt").read_text("utf-8")
    return text.strip().split("\n\n")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``speechmill demo`` left: 001.wav and so on, through broker and store."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "processor", "demo"],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "41 texts" in done.stdout
    return folder / ".speechmill/demo"


@pytest.fixture(scope="module")
def transcripts(spoken: Path) -> dict[int, str]:
    recogniser = Recogniser()
    heard = {}
    for number in HEARD:
        samples, rate = soundfile.read(spoken / f"{number + 1:03d}.wav", dtype="float32")
        heard[number] = recogniser.transcribe(samples, rate)
    return heard


def test_nine_words_in_ten_are_heard_as_written(
    paragraphs: list[str], transcripts: dict[int, str]
) -> None:
    rate = word_error_rate((paragraphs[number], transcripts[number]) for number in HEARD)

    assert rate < 0.10


def test_the_rate_would_tell_one_paragraph_from_another(
    paragraphs: list[str], transcripts: dict[int, str]
) -> None:
    neighbours = ((paragraphs[number - 3], transcripts[number]) for number in HEARD)

    assert word_error_rate(neighbours) > 0.7


def test_the_pace_is_that_of_a_reader(paragraphs: list[str], spoken: Path) -> None:
    # A recogniser hears through a wrong sample rate; the pace does not.
    characters = sum(len(paragraph) for paragraph in paragraphs)
    seconds = sum(soundfile.info(path).duration for path in spoken.glob("[0-9]*.wav"))

    assert 12 < characters / seconds < 22
