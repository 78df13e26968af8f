"""Dead letters are found, understood, replayed and deleted from the command line."""

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from processor.codec import Codec
from processor.deadletter import dead_letter
from processor.errors import BrokerUnavailable, Code, RequestError, Stage
from processor.events import Status
from processor.job import Headers, Record
from processor.kafka import create_topics
from processor.local.broker import EmbeddedBroker
from processor.local.child import free_port
from processor.settings import KafkaSettings
from producers import make_request
from producers.letters import Letter, Letters, Place, Reason, Wanted
from producers.reader import TopicReader
from producers.replay import Replay
from tests.engines import ScriptedEngine
from tests.integration.mill import Mill
from tests.integration.test_cli import Result, speechmill
from tests.waiting import eventually

NOW = datetime.now(UTC)


class Graveyard:
    """Letters as a worker writes them, without a worker."""

    def __init__(self, mill: Mill) -> None:
        self._mill = mill
        self._producer = Producer({"bootstrap.servers": mill.parts.bootstrap})

    def bury(
        self,
        value: bytes | None,
        *,
        key: bytes | None = b"key",
        headers: Headers = (),
        code: Code = Code.UNKNOWN_VOICE,
        message: str = "voice: there is no such voice",
        topic: str | None = None,
        partition: int = 0,
        ago: timedelta = timedelta(0),
    ) -> None:
        record = Record(
            topic or self._mill.settings.kafka.requests, partition, 7, key, value, headers, None
        )
        error = RequestError(code, message, stage=Stage.PREPARE, field="voice")
        letter = dead_letter(record, error, topic="", worker="w")
        self.put(letter.key, letter.value, letter.headers, partition=partition, ago=ago)

    def put(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        *,
        partition: int = 0,
        ago: timedelta = timedelta(0),
    ) -> None:
        self._producer.produce(
            self._mill.settings.kafka.deadletters,
            key=key,
            value=value,
            headers=list(headers),
            partition=partition,
            timestamp=int((datetime.now(UTC) - ago).timestamp() * 1000),
        )
        self._producer.poll(0)

    def close(self) -> None:
        assert self._producer.flush(20) == 0


@contextmanager
def graveyard(mill: Mill) -> Iterator[Graveyard]:
    with closing(Graveyard(mill)) as place:
        yield place


def deadletters(mill: Mill, *arguments: str, **environment: str) -> Result:
    return speechmill(mill, "deadletters", *arguments, environment=environment)


def listed(mill: Mill, *arguments: str) -> list[dict[str, Any]]:
    done = deadletters(mill, "list", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def said(done: Result) -> str:
    """Standard error, without the lines and the frame that a usage error is broken into."""
    return " ".join(done.stderr.replace("│", " ").split())


def avro(**fields: Any) -> bytes:
    return Codec().encode(make_request("Good morning.", **fields), topic="t")


def requests(mill: Mill, count: int) -> list[Any]:
    return mill._read(mill.settings.kafka.requests, count, 20)


def typed(mill: Mill, answer: str, *arguments: str) -> tuple[int, str]:
    """Run the command on a terminal of 200 columns; ``answer`` follows its question."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "processor", "deadletters", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, **mill.environment(), "COLUMNS": "200", "TERM": "xterm"},
        cwd=mill.folder,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while chunk := _chunk(ours):
            seen += chunk
            if seen.endswith(b"[y/N]: ") and answer:
                os.write(ours, answer.encode())
                answer = ""
        return process.wait(30), seen.decode()
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def _chunk(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side is closed
        return b""


# -- the whole way, with a worker ----------------------------------------------------------------


def test_once_the_cause_is_mended_a_letter_is_replayed_and_answered(mill: Mill) -> None:
    engine = ScriptedEngine()
    mill.start(engine, store={"text_buckets": [mill.settings.store.bucket]})
    asked = mill.ask(
        text_uri=f"s3://{mill.store.bucket}/acme/a.txt", tenant="acme", request_id="late"
    )
    (letter,) = mill.letters(1)
    (found,) = listed(mill)
    mill.store.put("acme/a.txt", b"Here at last.", "text/plain")

    done = deadletters(mill, "replay", "--code", "text_unavailable", "--yes")

    assert done.returncode == 0, done.stderr
    assert "1 dead letter replayed" in done.stderr
    assert "append-only" in done.stderr
    failed, completed = mill.completions(2)
    assert (failed.status, completed.status) == (Status.FAILED, Status.COMPLETED)
    assert engine.spoken == ["Here at last."]
    first, second = sorted(requests(mill, 2), key=lambda message: int(message.offset()))
    assert (second.key(), second.value()) == (first.key(), first.value())
    assert second.partition() == first.partition()
    assert second.headers() == [*(first.headers() or []), ("speechmill.replayed", b"1")]
    assert letter.value == Codec().encode(asked, topic="t")
    assert {name: found[name] for name in ("code", "field", "tenant", "request_id")} == {
        "code": "TEXT_UNAVAILABLE",
        "field": "text_uri",
        "tenant": "acme",
        "request_id": "late",
    }
    assert found["source"]["topic"] == mill.settings.kafka.requests


def test_what_fails_again_is_a_new_letter_that_counts_its_tries(mill: Mill) -> None:
    mill.start(ScriptedEngine())
    mill.ask("Hi.", voice="nobody", request_id="again", partition=2)
    mill.letters(1)

    first = deadletters(mill, "replay", "2:0", "--yes")
    mill.letters(2)
    both = deadletters(mill, "replay", "--yes")
    mill.letters(4)

    assert "1 dead letter replayed" in first.stderr, first.stderr
    # Those that fail while it runs are not replayed by it, however fast they come.
    assert "2 dead letters replayed" in both.stderr
    found = listed(mill)
    assert [letter["replayed"] for letter in found] == [0, 1, 1, 2]
    assert {(letter["code"], letter["request_id"]) for letter in found} == {
        ("UNKNOWN_VOICE", "again")
    }


# -- list ----------------------------------------------------------------------------------------


def test_letters_are_listed_by_code_time_and_tenant(mill: Mill) -> None:
    with graveyard(mill) as place:
        place.bury(avro(request_id="old", tenant="acme"), ago=timedelta(hours=3), partition=1)
        place.bury(avro(request_id="new", tenant="acme"), partition=1)
        place.bury(avro(request_id="theirs", tenant="zenith"), code=Code.ENGINE_FAILED, partition=5)
        place.bury(b"\x89PNG", key=None, code=Code.UNDECODABLE)
        place.bury(b'{"request_id": "script", "speed": "fast"}', code=Code.INVALID_FIELD)
        place.put(None, None, partition=3)  # by another program

    def found(*arguments: str) -> set[str | None]:
        return {letter["request_id"] or letter["code"] for letter in listed(mill, *arguments)}

    assert found() == {"old", "new", "theirs", "UNDECODABLE", "script", None}
    assert found("--tenant", "acme") == {"old", "new"}
    assert found("--tenant", "default") == {"script"}
    assert found("--tenant", "acme", "--since", "1h") == {"new"}
    assert found("--until", "1h") == {"old"}
    assert found("--since", (NOW + timedelta(days=1)).isoformat()) == set()
    assert found("--code", "engine_failed", "--code", "UNDECODABLE") == {"theirs", "UNDECODABLE"}
    assert len(listed(mill, "--limit", "2")) == 2
    plain = deadletters(mill, "list", "--tenant", "zenith")
    assert "ENGINE_FAILED  zenith  theirs  voice: there is no such voice" in plain.stdout
    assert "1 dead letter in" in plain.stderr


def test_on_a_terminal_they_are_a_table(mill: Mill) -> None:
    with graveyard(mill) as place:
        for number in range(60):  # more than one page
            place.bury(avro(request_id=f"row-{number:03d}"))

    status, shown = typed(mill, "", "list")

    assert status == 0
    assert shown.count("request") == 1, "one line of headings"
    rows = [line for line in shown.splitlines() if "row-" in line]
    assert len(rows) == 60
    assert len({line.index("row-") for line in rows}) == 1, "the pages line up"
    assert "60 dead letters" in shown


def test_an_empty_topic_is_no_error(mill: Mill) -> None:
    done = deadletters(mill, "list")

    assert (done.returncode, done.stdout) == (0, "")
    assert "0 dead letters" in done.stderr


def test_many_letters_are_all_read(mill: Mill) -> None:
    with graveyard(mill) as place:
        for number in range(3000):
            place.bury(b"%d" % number + b"." * 500, partition=number % mill.partitions)

    places = [(letter["partition"], letter["offset"]) for letter in listed(mill)]

    assert len(set(places)) == 3000
    assert places == sorted(places)


def test_a_topic_that_grows_is_read_to_the_end_that_it_had(mill: Mill) -> None:
    with graveyard(mill) as place:
        for _ in range(50):
            place.bury(b"before", partition=1)
    with closing(Letters(mill.settings.kafka, Codec())) as letters, graveyard(mill) as place:
        first = next(reading := letters.matching(Wanted()))
        for _ in range(50):
            place.bury(b"after", partition=1)
        place.bury(b"after", partition=2)
        place.close()

        rest = list(reading)
        once_more = list(letters.matching(Wanted()))

    assert [letter.value for letter in [first, *rest]] == [b"before"] * 50
    assert len(once_more) == 50


def test_a_topic_that_never_rests_has_an_end(mill: Mill) -> None:
    stop = threading.Event()

    def grow() -> None:
        with graveyard(mill) as place:
            while not stop.wait(0.002):
                place.bury(b"more", partition=1)

    writer = threading.Thread(target=grow)
    with closing(TopicReader(mill.settings.kafka, "deadletters")) as reader:
        writer.start()
        try:
            eventually(lambda: reader.starts("end")[1] > 100, "a hundred letters")
            began = time.monotonic()
            count = sum(1 for _ in reader.present())
            took = time.monotonic() - began
        finally:
            stop.set()
            writer.join()

    assert count >= 100
    assert took < 20


# -- show ----------------------------------------------------------------------------------------


def test_a_letter_is_shown_with_its_event_or_its_bytes(mill: Mill) -> None:
    with graveyard(mill) as place:
        place.bury(
            avro(request_id="r-1", tenant="acme", voice="nobody"),
            headers=(("traceparent", b"00-ab"), ("flag", None)),
        )
        place.bury(b"\x89PNG\r\n" + b"x" * 300, key=b"\xff", code=Code.UNDECODABLE)
        place.bury(b'{"a":' * 700 + b"1" + b"}" * 700)

    event, dump, deep = (deadletters(mill, "show", f"0:{offset}") for offset in range(3))
    by_name = deadletters(mill, "show", "r-1")

    assert (event.returncode, dump.returncode, deep.returncode) == (0, 0, 0), deep.stderr
    assert by_name.stdout == event.stdout
    for shown in (
        "code        UNKNOWN_VOICE",
        "field       voice",
        "stage       PREPARE",
        "tenant      acme",
        "request     r-1",
        f"came from   {mill.settings.kafka.requests} 0:7",
        "  traceparent",
        '"voice": "nobody"',
    ):
        assert shown in event.stdout
    assert "89 50 4e 47 0d 0a 78" in dump.stdout
    assert "… 50 bytes more" in dump.stdout
    assert "key         \\xff" in dump.stdout


def test_a_stranger_cannot_steer_the_terminal(mill: Mill) -> None:
    evil = "\x1b[2J\x07\u202e[bold]:warning:"
    value = json.dumps({"request_id": evil, "tenant": evil, "text": evil}).encode()
    with graveyard(mill) as place:
        place.bury(value, key=evil.encode(), headers=((evil, evil.encode()),), message=evil)

    shown = deadletters(mill, "show", "0:0").stdout
    plain = deadletters(mill, "list").stdout
    as_json = deadletters(mill, "list", "--json").stdout
    _, table = typed(mill, "", "list")

    for text in (shown, plain, as_json):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
        assert "[bold]:warning:" in text
    assert "\x1b[2J" not in table
    assert "\u202e" not in table
    assert json.loads(as_json)["request_id"] == evil


@pytest.mark.parametrize("which", ["0:99", "99:0", "nobody"])
def test_a_letter_that_is_not_there_is_said_so(mill: Mill, which: str) -> None:
    with graveyard(mill) as place:
        place.bury(b"one")

    done = deadletters(mill, "show", which)

    assert done.returncode == 1
    assert "LetterMissing" in said(done)
    assert which in said(done)


# -- replay --------------------------------------------------------------------------------------


def test_what_did_not_come_from_the_request_topic_is_refused_by_name(mill: Mill) -> None:
    with graveyard(mill) as place:
        place.bury(b"elsewhere's", topic="orders")
        place.bury(b"ours", key=None, headers=(("mine", b"kept"),), partition=6)
        place.put(None, b"nobody's", partition=1)

    done = deadletters(mill, "replay", "--yes")

    assert done.returncode == 1
    assert "0:0: not replayed: it came from orders, and kafka.requests is" in done.stderr
    assert "1:0: not replayed: no header says" in done.stderr
    assert "1 dead letter replayed" in done.stderr
    (message,) = requests(mill, 1)
    assert (message.partition(), message.key(), message.value()) == (6, None, b"ours")
    assert message.headers() == [("mine", b"kept"), ("speechmill.replayed", b"1")]


def test_nothing_goes_in_a_dry_run_nor_unasked(mill: Mill) -> None:
    with graveyard(mill) as place:
        place.bury(avro(request_id="stays"))

    dry = deadletters(mill, "replay", "--dry-run")
    unasked = deadletters(mill, "replay")
    denied, question = typed(mill, "n\n", "replay")

    assert dry.returncode == 0
    assert "stays" in dry.stdout
    assert "1 dead letter would go" in dry.stderr
    assert unasked.returncode == 2
    assert "--yes" in said(unasked)
    assert denied == 1
    assert "Send 1 dead letter to the request topic once more?" in question
    assert requests(mill, 0) == []


def test_on_a_terminal_a_yes_sends_them(mill: Mill) -> None:
    with graveyard(mill) as place:
        for number in range(4):
            place.bury(avro(request_id=str(number)), partition=number)

    status, shown = typed(mill, "y\n", "replay", "--limit", "3")

    assert status == 0
    assert "3 dead letters replayed" in shown
    assert len(requests(mill, 3)) == 3


def test_places_and_conditions_exclude_each_other(mill: Mill) -> None:
    both = deadletters(mill, "replay", "0:0", "--tenant", "acme", "--yes")
    wrong = deadletters(mill, "replay", "first", "--yes")
    missing = deadletters(mill, "replay", "0:0", "--yes")

    assert (both.returncode, wrong.returncode, missing.returncode) == (2, 2, 1)
    assert "either places or conditions" in said(both)
    assert "3:17" in said(wrong)
    assert "LetterMissing" in said(missing)


# -- purge ---------------------------------------------------------------------------------------


def test_purge_deletes_where_the_broker_can_and_says_so_where_not(mill: Mill) -> None:
    with graveyard(mill) as place:
        place.bury(b"old", ago=timedelta(days=9))
        place.bury(b"young")
        place.bury(b"old behind a young one", ago=timedelta(days=9))
        place.bury(b"old", ago=timedelta(days=9), partition=4)

    if mill.parts.kind == "embedded":
        done = deadletters(mill, "purge", "--yes")
        assert done.returncode == 1
        assert "NotPurged" in said(done)
        assert "embedded one can't" in said(done)
        assert len(listed(mill)) == 4
        return
    old = deadletters(mill, "purge", "--before", "7d", "--yes")
    left = [letter["letter"] for letter in listed(mill)]
    gone = deadletters(mill, "show", "0:0")
    denied, question = typed(mill, "n\n", "purge")
    rest = deadletters(mill, "purge", "--yes")

    assert old.returncode == 0, old.stderr
    assert old.stdout.count("deleted from 0 to 0") == 2
    assert left == ["0:1", "0:2"]
    assert "LetterMissing" in said(gone)
    assert denied == 1
    assert "Delete up to 2 dead letters" in question
    assert "deleted from 1 to 2" in rest.stdout
    assert listed(mill) == []
    assert "nothing to delete" in deadletters(mill, "purge", "--yes").stderr


def test_purge_does_not_choose_nor_go_on_unasked(mill: Mill) -> None:
    with graveyard(mill) as place:
        place.bury(b"one")

    for option, value in (("--code", "TEXT_EMPTY"), ("--tenant", "acme")):
        chosen = deadletters(mill, "purge", option, value, "--yes")
        assert chosen.returncode == 2
        assert "from the front of a partition only" in said(chosen)
        assert "--before" in said(chosen)
    unasked = deadletters(mill, "purge")
    assert unasked.returncode == 2
    assert "--yes" in said(unasked)
    assert len(listed(mill)) == 1


# -- faults --------------------------------------------------------------------------------------


def test_without_a_broker_or_a_topic_it_is_one_line(mill: Mill) -> None:
    away = deadletters(mill, "list", SPEECHMILL_KAFKA__BOOTSTRAP=f"127.0.0.1:{free_port()}")
    assert away.returncode == 1
    assert "kafka.bootstrap: no broker answers" in said(away)
    assert "Traceback" not in away.stderr
    for command in (["list"], ["show", "0:0"], ["replay", "--yes"], ["purge", "--yes"]):
        nowhere = deadletters(mill, *command, SPEECHMILL_KAFKA__DEADLETTERS="nowhere")
        assert nowhere.returncode == 2
        assert "kafka.deadletters: there is no topic nowhere" in said(nowhere)


@pytest.mark.integration
def test_what_no_broker_confirms_does_not_count_as_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.replay._CONFIRM_S", 1.0)
    letter = Letter(
        Place(0, 0), None, None, b"x" * 1000, (), Reason(topic="speech.requests"), 0,
        omitted=False, event=None,
    )  # fmt: skip
    complaints: list[str] = []
    broker = EmbeddedBroker(tmp_path)
    try:
        broker.wait_ready()
        settings = KafkaSettings(bootstrap=broker.bootstrap)
        create_topics(settings, timeout_s=10.0)
        replay = Replay(settings, lambda _, why: complaints.append(why))
        replay.send(letter)
        replay.finish()
        broker.child.kill()
        sent = 1
        with pytest.raises(BrokerUnavailable, match="confirmed nothing"):
            while True:
                replay.send(letter)
                sent += 1
        replay.finish()
    finally:
        broker.stop()

    assert replay.replayed == 1
    assert replay.failed == len(complaints) == sent - 1 > 0
    assert {"Local: Message timed out"} == set(complaints)
