"""The command line as a user types it: each command in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from processor.local.child import free_port
from tests.engines import ScriptedEngine
from tests.integration.mill import Mill

Result = subprocess.CompletedProcess[str]


def speechmill(
    mill: Mill,
    *arguments: str,
    typed: bytes = b"",
    environment: dict[str, str] | None = None,
) -> Result:
    """Run the command where ``mill`` is; ``typed`` is its standard input."""
    done = subprocess.run(
        [sys.executable, "-m", "processor", *arguments],
        input=typed,
        capture_output=True,
        env={**os.environ, **mill.environment(), **(environment or {})},
        cwd=mill.folder,
        timeout=90,
        check=False,
    )
    return Result(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_submit_waits_and_saves_the_audio(mill: Mill) -> None:
    mill.start(ScriptedEngine())

    done = speechmill(mill, "submit", "--save", "out", "Say this.", "And this.")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("completed") == 2
    files = sorted((mill.folder / "out").iterdir())
    assert len(files) == 2
    assert all(soundfile.info(file).samplerate == 8000 for file in files)


def test_submit_prints_json_for_scripts(mill: Mill) -> None:
    mill.start(ScriptedEngine())

    done = speechmill(mill, "submit", "--wait", "--json", "--seed", "7", "One.", "☃ two.")

    good, bad = (json.loads(line) for line in done.stdout.splitlines())
    assert (good["status"], good["seed_used"]) == ("completed", 7)
    assert (bad["status"], bad["error"]["code"]) == ("failed", "UNSUPPORTED_TEXT")
    assert done.returncode == 1


def test_submit_reads_a_text_by_paragraph(mill: Mill) -> None:
    engine = ScriptedEngine()
    mill.start(engine)
    (mill.folder / "book.txt").write_text("First one.\n\nSecond\none.\n\n* * *\n\nThird one.\n")

    done = speechmill(mill, "submit", "--wait", "--json", "--document", "book", "book.txt")

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["index"] for event in events] == [0, 1, 2]
    assert {event["document_id"] for event in events} == {"book"}
    assert sorted(engine.spoken) == ["First one.", "Second one.", "Third one."]
    assert done.returncode == 0


def test_submit_reads_json_lines_csv_and_standard_input(mill: Mill) -> None:
    engine = ScriptedEngine()
    mill.start(engine)
    (mill.folder / "a.jsonl").write_text('{"text": "From JSON.", "speed": 1.5}\n{"txt": "typo"}\n')
    (mill.folder / "b.csv").write_text('text,output.format\n"From, CSV.",flac\n')

    done = speechmill(
        mill, "submit", "--wait", "a.jsonl", "b.csv", "-", typed=b"From standard input.\n"
    )

    assert sorted(engine.spoken) == ["From JSON.", "From standard input.", "From, CSV."]
    assert "a.jsonl:2: txt: no such field; did you mean 'text'?" in done.stderr
    assert done.returncode == 1


def test_submit_refuses_a_file_that_is_not_utf8_and_says_where(mill: Mill) -> None:
    (mill.folder / "old.txt").write_bytes(b"Caf\xe9 noir")

    done = speechmill(mill, "submit", "old.txt")

    assert done.returncode == 1
    assert "old.txt: byte 3 is not UTF-8" in done.stderr
    assert "iconv" in done.stderr
    assert "Traceback" not in done.stderr


def test_submit_without_waiting_says_how_many_went_out(mill: Mill) -> None:
    done = speechmill(mill, "submit", "One.", "Two.")

    assert done.returncode == 0
    assert "2 requests submitted" in done.stderr
    assert len(mill._read(mill.settings.kafka.requests, 2, 20)) == 2


def test_watch_shows_what_has_been_and_saves_it(mill: Mill) -> None:
    mill.start(ScriptedEngine())
    mill.ask("Ours.", tenant="acme", request_id="../../ours")
    mill.ask("Theirs.", tenant="zenith")
    mill.completions(2)

    done = speechmill(
        mill, "watch", "--since", "beginning", "--tenant", "acme", "--count", "1",
        "--save", "out", "--json",
    )  # fmt: skip

    (event,) = (json.loads(line) for line in done.stdout.splitlines())
    assert event["request_id"] == "../../ours"
    assert Path(event["file"]).parent == Path("out"), "a request_id can't lead out of the folder"
    assert (mill.folder / event["file"]).is_file()


def test_topics_create_may_be_run_again(mill: Mill) -> None:
    done = speechmill(mill, "topics", "create")
    fresh = speechmill(
        mill, "topics", "create", environment={"SPEECHMILL_KAFKA__REQUESTS": f"new-{mill.id}"}
    )

    assert done.stdout.count("there already") == 4
    assert f"topic new-{mill.id}: 8 partitions" in fresh.stdout
    assert (done.returncode, fresh.returncode) == (0, 0)


def test_doctor_finds_everything_in_order(mill: Mill) -> None:
    done = speechmill(mill, "doctor")

    assert done.returncode == 0, done.stdout
    assert done.stdout.count(" ok ") == 7
    assert "conditional writes" in done.stdout


def test_doctor_says_what_to_do_about_each_failure(mill: Mill) -> None:
    away = f"127.0.0.1:{free_port()}"

    no_services = speechmill(
        mill,
        "doctor",
        environment={
            "SPEECHMILL_KAFKA__BOOTSTRAP": away,
            "SPEECHMILL_STORE__ENDPOINT": f"http://{away}",
        },
    )
    no_names = speechmill(
        mill,
        "doctor",
        environment={
            "SPEECHMILL_KAFKA__REQUESTS": "nowhere",
            "SPEECHMILL_STORE__BUCKET": "nowhere",
            "SPEECHMILL_ENGINE__NAME": "nothing",
        },
    )

    assert no_services.returncode == no_names.returncode == 1
    for remedy in ("SPEECHMILL_KAFKA__BOOTSTRAP", "SPEECHMILL_STORE__ENDPOINT", "speechmill up"):
        assert remedy in no_services.stdout
    for remedy in ("speechmill topics create", "nowhere", "hibari"):
        assert remedy in no_names.stdout


@pytest.mark.parametrize(
    ("environment", "says", "status"),
    [
        ({"SPEECHMILL_KAFKA__BOOTSTRAP": "AWAY"}, "kafka.bootstrap: no broker answers", 1),
        ({"SPEECHMILL_STORE__ENDPOINT": "http://AWAY"}, "StoreUnavailable", 1),
        ({"SPEECHMILL_STORE__BUCKET": "nowhere-yet"}, "there is no bucket 'nowhere-yet'", 1),
        ({"SPEECHMILL_KAFKA__REQUESTS": "nowhere"}, "speechmill topics create", 2),
        ({"SPEECHMILL_ENGINE__NAME": "nothing"}, "engine.name", 2),
        ({"SPEECHMILL_ENGINE__THREADS": "-1"}, "engine.threads (SPEECHMILL_ENGINE__THREADS)", 2),
        ({"SPEECHMILL_ENGINES__NAME": "x"}, "SPEECHMILL_ENGINES__NAME: no such setting", 2),
    ],
)
def test_a_worker_that_cannot_start_says_why_in_one_line(
    mill: Mill, environment: dict[str, str], says: str, status: int
) -> None:
    away = f"127.0.0.1:{free_port()}"
    set_to = {name: value.replace("AWAY", away) for name, value in environment.items()}

    done = speechmill(mill, "worker", environment={"SPEECHMILL_WORKER__STARTUP_S": "1", **set_to})

    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert says in line
    assert done.returncode == status
    assert "Traceback" not in done.stderr
