"""Poison among good requests: it alone fails, each kind in its own way, and is kept as it came."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from processor.codec import Codec
from processor.kafka import create_topics
from processor.local.child import Child
from producers.client import make_request
from tests.faults.invariants import judge, witness_of
from tests.faults.test_load import FAST
from tests.faults.witness import Witness
from tests.integration.mill import Mill
from tests.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

ONE_IN = 20
TIMES = 2
POISONED = {
    **FAST,
    "SPEECHMILL_ENGINE__NAME": "simulated",
    "SPEECHMILL_SIMULATED__FAULTS": json.dumps(
        {"Unspeakable": "refuse", "Breaking": "raise", "Silent": "silent", "Infinite": "nan"}
    ),
}


def event(**fields: Any) -> Callable[[str], bytes]:
    """A JSON event with these fields, for a request_id."""
    return lambda name: json.dumps({"request_id": name, **fields}).encode()


def cut(name: str) -> bytes:
    return Codec().encode(make_request("Cut off.", request_id=name), topic="any")[:-3]


#: Of each kind: the bytes, and the code that it fails with.
POISON: dict[str, tuple[Callable[[str], bytes | None], str]] = {
    "a picture": (lambda _: b"\x89PNG\r\n\x1a\n", "UNDECODABLE"),
    "nothing": (lambda _: None, "UNDECODABLE"),
    "cut off": (cut, "UNDECODABLE"),
    "of another schema": (lambda _: b"\xc3\x01" + b"\x07" * 8 + b"body", "UNKNOWN_SCHEMA"),
    "a bad field": (event(text="Hi.", speed=-1), "INVALID_FIELD"),
    "an unknown field": (event(text="Hi.", txet="Hi."), "INVALID_FIELD"),
    "empty": (event(text=" \u200b "), "TEXT_EMPTY"),
    "too long": (event(text="word " * 5000), "TEXT_TOO_LONG"),
    "of nobody's voice": (event(text="Hi.", voice="nobody"), "UNKNOWN_VOICE"),
    "refused by the engine": (event(text="Unspeakable."), "UNSUPPORTED_TEXT"),
    "what the engine raises at": (event(text="Breaking."), "ENGINE_FAILED"),
    "silent": (event(text="Silent."), "ENGINE_FAILED"),
    "not finite": (event(text="Infinite."), "ENGINE_FAILED"),
}
#: Of these nobody knows who asked: a dead letter is all that comes of them.
NOBODYS = {name for name, (_, code) in POISON.items() if code in ("UNDECODABLE", "UNKNOWN_SCHEMA")}


def test_poison_among_good_requests_fails_alone_and_is_kept_as_it_came(mill: Mill) -> None:
    witness = witness_of(mill)
    for name in ("one", "two"):
        mill.start_process(name, **POISONED)
    good, sent = [], {}
    with witness.watching() as watch:
        for number in range(TIMES * len(POISON) * ONE_IN):
            partition = number % mill.partitions
            if number % ONE_IN == ONE_IN // 2:
                kind = list(POISON)[number // ONE_IN % len(POISON)]
                name = f"{kind}, {number}"
                sent[name] = POISON[kind][0](name)
                headers = {"mine": name.encode()}
                mill.produce(sent[name], key=name.encode(), headers=headers, partition=partition)
            else:
                good.append(mill.ask(f"A good one, {number}.", partition=partition).request_id)
        mill.flush()
        verdict = judge(witness)

    assert not verdict.violations
    assert watch.looks
    assert not watch.violations
    spoken = {answer.request_id for answer in verdict.answers if answer.spoken}
    assert spoken == set(good)
    letters = {(letter.key or b"").decode(): letter for letter in verdict.letters}
    failed = {answer.request_id: answer for answer in verdict.answers if not answer.spoken}
    assert set(letters) == set(sent)
    for name, value in sent.items():
        kind = name.partition(", ")[0]
        letter, code = letters[name], POISON[kind][1]
        assert letter.value == value
        assert letter.header("mine") == name
        assert (name, letter.header("speechmill.error.code")) == (name, code)
        assert (name in failed) == (kind not in NOBODYS)
        if name in failed:
            assert (name, failed[name].code) == (name, code)
    print(f"\n{len(sent)} poisoned of {len(POISON)} kinds among {len(good)} good ones")  # noqa: T201


def limit_letters(mill: Mill, most_bytes: int) -> None:
    """The largest batch, in bytes, that the dead-letter topic takes."""
    limit = ConfigEntry(
        "max.message.bytes", str(most_bytes), incremental_operation=AlterConfigOpType.SET
    )
    topic = ConfigResource(
        ResourceType.TOPIC, mill.settings.kafka.deadletters, incremental_configs=[limit]
    )
    admin = AdminClient({"bootstrap.servers": mill.parts.bootstrap})
    (future,) = admin.incremental_alter_configs([topic]).values()
    future.result(30)


def last_words(worker: Child) -> str:
    return worker.log.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]


def test_where_no_dead_letter_can_be_written_the_worker_ends_before_it_loses_one(
    mill: Mill,
) -> None:
    witness = witness_of(mill)
    worker = mill.start_process("worker", **POISONED)
    asked = [mill.ask(f"Before, {n}.", partition=0).request_id for n in range(20)]
    eventually(lambda: witness.done() == 20, "the good ones to be done", 60)
    # Less than any letter has in headers, more than a transaction's marker has in all: without
    # markers no transaction ends, not even one that is undone.
    limit_letters(mill, 200)
    mill.produce(b"poison", partition=0)
    asked += [mill.ask(f"After, {n}.", partition=0).request_id for n in range(20)]
    mill.flush()
    # More often than a record that kills its worker is tried: these end for another reason.
    for number in range(5):
        status = eventually(lambda: worker.wait(0.1), "the worker to give up", 60)  # noqa: B023
        assert status == 1
        assert f"{mill.settings.kafka.deadletters} does not take a message" in last_words(worker)
        assert witness.done() == 20, "the offset stays before the poison"
        worker = mill.start_process(f"worker-{number}", **POISONED)
    eventually(lambda: worker.wait(0.1), "the last worker to give up", 60)
    limit_letters(mill, 1_000_000)
    mill.start_process("worker-again", **POISONED)

    assert_all_but_the_poison(mill, witness, asked)


def test_where_the_dead_letter_topic_is_gone_work_waits_until_it_is_back(mill: Mill) -> None:
    witness = witness_of(mill)
    worker = mill.start_process("worker", **POISONED)
    asked = [mill.ask(f"Before, {n}.", partition=0).request_id for n in range(20)]
    eventually(lambda: witness.done() == 20, "the good ones to be done", 60)
    name, admin = (
        mill.settings.kafka.deadletters,
        AdminClient({"bootstrap.servers": mill.parts.bootstrap}),
    )
    (future,) = admin.delete_topics([name]).values()
    future.result(30)
    mill.produce(b"poison", partition=0)
    asked += [mill.ask(f"After, {n}.", partition=0).request_id for n in range(20)]
    mill.flush()
    eventually(lambda: "transaction failed" in worker.log.read_text(), "a vain attempt", 60)
    worker.terminate()
    assert worker.wait(30) is not None
    assert witness.done() == 20, "the offset stays before the poison"
    create_topics(mill.settings.kafka, timeout_s=20.0)
    mill.start_process("worker-again", **POISONED)

    assert_all_but_the_poison(mill, witness, asked)


def assert_all_but_the_poison(mill: Mill, witness: Witness, asked: list[str]) -> None:
    mill.flush()
    verdict = judge(witness, 60)
    assert not verdict.violations
    assert sorted(a.request_id for a in verdict.answers if a.spoken) == sorted(asked)
    assert [letter.value for letter in verdict.letters] == [b"poison"]
