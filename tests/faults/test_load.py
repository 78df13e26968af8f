"""No fault at all: many requests, four workers, and every invariant holds.

``RUNS`` and ``REQUESTS`` in the environment make it longer: 10 and 5000 for the whole of it.
"""

import os
import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from processor.codec import Codec
from processor.events import Audio, Failure, Source, SpeechCompleted, Status
from processor.local.child import Child
from tests.faults import doomed
from tests.faults.doomed import Spoken
from tests.faults.invariants import check, judge, witness_of
from tests.integration.mill import Mill
from tests.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(3600)]

RUNS = int(os.environ.get("RUNS", "1"))
REQUESTS = int(os.environ.get("REQUESTS", "500"))
WINDOW_AUDIO_BYTES = 10_000_000
FAST = {
    "SPEECHMILL_SIMULATED__BASE_MS": "20",
    "SPEECHMILL_SIMULATED__ITEM_MS": "2",
    "SPEECHMILL_WORKER__WINDOW_REQUESTS": "64",
    "SPEECHMILL_WORKER__WINDOW_AUDIO_BYTES": str(WINDOW_AUDIO_BYTES),
}
#: What a worker may take beyond what it takes idle, in bytes: twice of what was seen, which was the
#: same with 500 requests and with 5000. Their samples are 70 and 700 MB for each worker.
MOST_BYTES = 80_000_000


def memory(worker: Child, what: str) -> int:
    """Bytes of memory that a process has (``VmRSS``), or had at most (``VmHWM``)."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{worker.pid}/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def ready(worker: Child) -> bool:
    return "worker ready" in worker.log.read_text(encoding="utf-8")


@pytest.mark.parametrize("run", range(RUNS))
def test_four_workers_answer_each_request_once(mill: Mill, run: int) -> None:
    spoken, witness = Spoken(mill.folder), witness_of(mill)
    workers = [doomed.start(mill, f"worker-{n}", spoken, FAST) for n in range(4)]
    eventually(lambda: all(map(ready, workers)), "four workers to be ready", 60)
    idle = max(memory(worker, "VmRSS") for worker in workers)
    began = time.monotonic()
    with witness.watching() as watch:
        # 8 s of audio each, half a megabyte of samples: many windows of it in all.
        asked = [
            mill.ask(f"Run {run}, number {n}, {'and so it goes on ' * 7}.").request_id
            for n in range(REQUESTS)
        ]
        eventually(lambda: witness.done() == REQUESTS, "all to be committed", 900)
    seconds = time.monotonic() - began
    most = max(memory(worker, "VmHWM") for worker in workers)

    check(mill, asked)
    assert watch.looks
    assert not watch.violations
    assert (spoken.counts().total(), spoken.again()) == (REQUESTS, 0)
    # H: whatever the backlog.
    assert most < idle + MOST_BYTES
    print(  # noqa: T201
        f"\n{REQUESTS} requests, four workers: {seconds:.1f} s; "
        f"{idle / 1e6:.0f} MB idle, {most / 1e6:.0f} MB at most"
    )


@pytest.mark.parametrize("how", ["back to back", "shuffled"])
def test_a_request_that_is_sent_twice_is_answered_twice_and_spoken_once(
    mill: Mill, how: str
) -> None:
    dice = random.Random(20261122)  # noqa: S311 - a repeatable test, not a secret
    spoken, witness = Spoken(mill.folder), witness_of(mill)
    workers = [doomed.start(mill, f"worker-{n}", spoken, FAST) for n in range(4)]
    eventually(lambda: all(map(ready, workers)), "four workers to be ready", 60)
    twice = [n for n in range(REQUESTS) for _ in range(2)]
    if how == "shuffled":
        dice.shuffle(twice)
    # The same request has the same key, and so the same partition and the same worker.
    with witness.watching() as watch:
        asked = [
            mill.ask(f"This is number {n}.", request_id=f"twice-{n}").request_id for n in twice
        ]
        check(mill, asked)

    assert watch.looks
    assert not watch.violations
    assert spoken.counts().total() == REQUESTS, f"{spoken.again()} were spoken once more"


def test_the_witness_finds_what_is_wrong(mill: Mill) -> None:
    """All the tests here trust it: one of each violation, made by hand, and no worker."""
    kafka = mill.settings.kafka
    for name in ("first", "second", "third", "unanswered"):
        mill.ask(f"The {name}.", request_id=name, partition=0)
    mill.flush()

    def answer(name: str, offset: int, **fields: Any) -> bytes:
        source = Source(topic=kafka.requests, partition=0, offset=offset)
        return Codec().encode(
            SpeechCompleted(request_id=name, source=source, **fields), topic=kafka.completions
        )

    failed: dict[str, Any] = {
        "status": Status.FAILED,
        "error": Failure(code="INTERNAL", message="", stage="prepare"),
    }
    lost = Audio(
        bucket=mill.settings.store.bucket, key="default/audio/lost.wav", sha256="0" * 64, bytes=1,
        content_type="audio/wav", sample_rate=16_000, channels=1, duration_ms=1,
    )  # fmt: skip
    producer = Producer({"bootstrap.servers": mill.parts.bootstrap, "transactional.id": mill.id})
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in (
        answer("second", 1, **failed),  # and no dead letter
        answer("second", 1, **failed),
        answer("first", 0, status=Status.COMPLETED, audio=lost),  # late, and its audio is lost
        answer("third", 2, status=Status.COMPLETED),
        answer("nobody", 99, **failed),
    ):
        producer.produce(kafka.completions, value=value, partition=0)
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(kafka.completions, value=b"never committed", partition=1)
    assert producer.flush(30) == 0

    found = judge(witness_of(mill), seconds=1).violations
    producer.abort_transaction(30)

    assert Counter(violation[0] for violation in found) == {
        "A": 1, "B": 2, "C": 2, "D": 1, "E": 1, "F": 1, "G": 1,
    }, found  # fmt: skip
