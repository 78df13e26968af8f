"""What is wrong with a request is said to the one who sent it, and its neighbours go unharmed."""

import json
from typing import Any

from processor.codec import Codec
from processor.engines.base import Engine
from processor.events import Status
from producers import make_request
from tests.engines import ScriptedEngine
from tests.integration.mill import Mill

NO_EVENTS: dict[str, tuple[bytes | None, str]] = {
    "a picture": (b"\x89PNG\r\n\x1a\n", "neither"),
    "an unknown schema": (b"\xc3\x01" + b"\x00" * 8 + b"body", "unknown Avro schema"),
    "a registry's": (b"\x00\x00\x00\x00\x07body", "registry.url"),
    "half an object": (b'{"text": "no end', "not JSON"),
    "not UTF-8": (b'{"text": "\xff"}', "UTF-8"),
    "nothing": (None, "no value"),
    "nobody's": (b'{"text": "nobody asked"}', "request_id"),
    "half an Avro event": (Codec().encode(make_request("Cut."), topic="t")[:30], "no SpeechReq"),
}


def test_what_is_no_event_is_a_dead_letter_untouched(mill: Mill) -> None:
    mill.start(ScriptedEngine())
    for name, (value, _) in NO_EVENTS.items():
        mill.produce(value, key=name.encode(), headers={"mine": b"kept"}, partition=0)
        mill.ask("A neighbour.", request_id=f"after {name}", partition=0)

    letters = {(letter.key or b"").decode(): letter for letter in mill.letters(len(NO_EVENTS))}
    neighbours = mill.completions(len(NO_EVENTS))

    assert {event.request_id for event in neighbours} == {f"after {name}" for name in NO_EVENTS}
    assert {event.status for event in neighbours} == {Status.COMPLETED}
    for offset, (name, (value, says)) in enumerate(NO_EVENTS.items()):
        letter = letters[name]
        assert letter.value == value
        assert letter.headers["mine"] == b"kept"
        assert says in letter.headers["__connect.errors.exception.message"].decode()
        assert letter.headers["__connect.errors.topic"].decode() == mill.settings.kafka.requests
        assert letter.headers["__connect.errors.partition"] == b"0"
        assert letter.headers["__connect.errors.offset"] == str(2 * offset).encode()


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "empty": ({"text": ""}, "TEXT_EMPTY", "text"),
    "nothing-to-say": ({"text": " \u200b<p></p>…"}, "TEXT_EMPTY", "text"),
    "no-text": ({}, "INVALID_FIELD", None),
    "too-long": ({"text": "word " * 5000}, "TEXT_TOO_LONG", "text"),
    "unknown-voice": ({"text": "Hi", "voice": "nobody"}, "UNKNOWN_VOICE", "voice"),
    "voice-of-another-language": (
        {"text": "Hi", "voice": "chen"},
        "UNSUPPORTED_LANGUAGE",
        "language",
    ),
    "klingon": ({"text": "Hi", "language": "tlh"}, "UNSUPPORTED_LANGUAGE", "language"),
    "other-model": ({"text": "Hi", "model": "other"}, "UNKNOWN_MODEL", "model"),
    "too-fast": ({"text": "Hi", "speed": 3.5}, "UNSUPPORTED_PARAMETER", "speed"),
    "backwards": ({"text": "Hi", "speed": -1}, "INVALID_FIELD", "speed"),
    "no-number": ({"text": "Hi", "speed": "fast"}, "INVALID_FIELD", "speed"),
    "emotion": ({"text": "Hi", "emotion": {"preset": "joy"}}, "UNSUPPORTED_PARAMETER", "emotion"),
    "unknown-format": ({"text": "Hi", "output": {"format": "aiff"}}, "INVALID_FIELD",
                       "output.format"),
    "other-rate": ({"text": "Hi", "output": {"sample_rate": 44100}}, "UNSUPPORTED_PARAMETER",
                   "output.sample_rate"),
    "tenant-path": ({"text": "Hi", "tenant": "../etc"}, "INVALID_FIELD", "tenant"),
    "typo": ({"text": "Hi", "txet": "Hi"}, "INVALID_FIELD", "txet"),
    "unreadable-sign": ({"text": "a ☃"}, "UNSUPPORTED_TEXT", "text"),
    "unreadable": ({"text": "UNREADABLE"}, "UNSUPPORTED_TEXT", "text"),
    "breaks": ({"text": "BREAKS"}, "ENGINE_FAILED", None),
    "not-finite": ({"text": "NAN"}, "ENGINE_FAILED", None),
    "silent": ({"text": "SILENT"}, "ENGINE_FAILED", None),
    "ssml": ({"text": "<speak>Hi</speak>"}, "UNSUPPORTED_PARAMETER", "text"),
    "elsewhere": ({"text_uri": "s3://elsewhere/default/a.txt"}, "TEXT_UNAVAILABLE", "text_uri"),
    "one-long-word": ({"text": "x" * 1000}, "UNSUPPORTED_TEXT", "text"),
}  # fmt: skip


def test_a_bad_request_fails_by_name_and_alone(mill: Mill) -> None:
    mill.start(ScriptedEngine())
    sent: dict[str, bytes] = {}
    for number, (name, (fields, _, _)) in enumerate(BAD_REQUESTS.items()):
        asked = {"request_id": name, "metadata": {"kept": "yes"}, **fields}
        sent[name] = json.dumps(asked).encode()
        mill.produce(sent[name], key=name.encode(), partition=number % 2)
        mill.ask(f"A neighbour, {number}.", request_id=f"after {name}", partition=number % 2)

    events = {event.request_id: event for event in mill.completions(2 * len(BAD_REQUESTS))}
    letters = {(letter.key or b"").decode(): letter for letter in mill.letters(len(BAD_REQUESTS))}

    for name, (_, code, field) in BAD_REQUESTS.items():
        assert events[f"after {name}"].status is Status.COMPLETED
        event = events[name]
        assert event.status is Status.FAILED
        assert event.error is not None
        assert (name, event.error.code, event.error.field) == (name, code, field)
        assert event.error.message.startswith(f"{field}:" if field else ("neither", "the engine"))
        assert event.metadata == {"kept": "yes"}
        assert event.audio is None
        assert letters[name].value == sent[name]
        assert letters[name].headers["speechmill.error.code"].decode() == code


def test_one_bad_segment_fails_its_request_and_no_other_of_its_batch(mill: Mill) -> None:
    engine = ScriptedEngine(max_batch=8)
    engine.gate.clear()
    mill.start(engine)
    for number in range(7):
        mill.ask(f"Good number {number}.")
    mill.ask("This one BREAKS.", request_id="bad")
    engine.gate.set()

    events = mill.completions(8)

    assert {e.request_id for e in events if e.status is Status.FAILED} == {"bad"}


def test_hibari_refuses_what_it_would_leave_out(mill: Mill, hibari: Engine) -> None:
    mill.start(hibari)
    mill.ask("Hello 你好.", request_id="mixed")
    mill.ask("Plain enough.", request_id="plain")

    events = {event.request_id: event for event in mill.completions(2)}

    assert events["plain"].status is Status.COMPLETED
    error = events["mixed"].error
    assert error is not None
    assert error.code == "UNSUPPORTED_TEXT"
    assert "'你好'" in error.message


def claim_checks(mill: Mill) -> dict[str, dict[str, Any]]:
    return {"store": {"text_buckets": [mill.settings.store.bucket]}}


def test_a_claim_check_is_fetched_and_spoken(mill: Mill) -> None:
    engine = ScriptedEngine()
    mill.start(engine, **claim_checks(mill))
    mill.store.put("acme/in/a.txt", b"From the store.", "text/plain")
    mill.ask(text_uri=f"s3://{mill.store.bucket}/acme/in/a.txt", tenant="acme")

    (event,) = mill.completions(1)

    assert event.status is Status.COMPLETED
    assert engine.spoken == ["From the store."]


def test_a_bad_claim_check_fails_its_request(mill: Mill) -> None:
    mill.start(ScriptedEngine(), **claim_checks(mill))
    cases = {
        "acme/missing.txt": (None, "TEXT_UNAVAILABLE"),
        "other/theirs.txt": (b"Another tenant's.", "TEXT_UNAVAILABLE"),
        "acme/latin1.txt": ("Caf\u00e9".encode("latin-1"), "TEXT_UNAVAILABLE"),
        "acme/long.txt": (b"word " * 5000, "TEXT_TOO_LONG"),
        "acme/huge.txt": (b"word " * 100_000, "TEXT_TOO_LONG"),
    }
    for key, (data, _) in cases.items():
        if data is not None:
            mill.store.put(key, data, "text/plain")
        mill.ask(text_uri=f"s3://{mill.store.bucket}/{key}", tenant="acme", request_id=key)

    codes = {e.request_id: e.error.code for e in mill.completions(len(cases)) if e.error}

    assert codes == {key: code for key, (_, code) in cases.items()}
