"""Workers are killed; the invariants A to E of the design hold for a reader of committed records.

Each test first proves that the fault happened and that there was progress. What is checked is read
with plain confluent-kafka and the store's own client. ``KILLS`` in the environment makes it longer.
"""

import hashlib
import os
import random
import time
from collections import Counter

import pytest

from processor.events import SpeechCompleted, Status
from processor.local.child import Child
from tests.integration.mill import Mill
from tests.waiting import eventually

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(3000),
]

KILLS = int(os.environ.get("KILLS", "8"))
#: Requests for each kill: more than a worker can do between two of them.
REQUESTS = 60 * KILLS


def check(mill: Mill, asked: list[str], events: list[SpeechCompleted]) -> None:
    """A and B: one visible completion each; C: its object is in place; D: none unasked."""
    counts = Counter(event.request_id for event in events)
    assert set(counts) == set(asked)
    assert max(counts.values()) == 1, [name for name, count in counts.items() if count > 1][:5]
    assert {event.status for event in events} == {Status.COMPLETED}
    hashes = {event.audio.key: event.audio.sha256 for event in events if event.audio}
    for key, sha256 in hashes.items():
        assert hashlib.sha256(mill.store.get(key, 10_000_000)).hexdigest() == sha256


def test_sigkill_at_random_loses_nothing_and_doubles_nothing(mill: Mill) -> None:
    dice = random.Random(20261122)  # noqa: S311 - a repeatable test, not a secret
    names = ["one", "two"]
    workers: dict[str, Child] = {
        name: mill.start_process(name, SPEECHMILL_WORKER__WINDOW_REQUESTS="64") for name in names
    }
    asked = [
        mill.ask(f"Number {n}. " + "It goes on for some sentences. " * (n % 7)).request_id
        for n in range(REQUESTS)
    ]
    eventually(lambda: mill.committed() > 0, "a beginning", 60)

    progress = []
    for kill in range(KILLS):
        name = names[kill % 2]
        victim = workers[name]
        time.sleep(dice.uniform(2.0, 4.0))  # the fault's own rhythm: nothing is waited for
        assert victim.returncode is None, "it ran until now"
        victim.kill()
        assert victim.wait(10) == -9, "and SIGKILL ended it"
        progress.append(mill.committed())
        workers[name] = mill.start_process(
            f"{name}-{kill}",
            SPEECHMILL_WORKER__NAME=name,  # the same slot: the same transactional id
            SPEECHMILL_WORKER__WINDOW_REQUESTS="64",
        )
    assert progress[0] < REQUESTS, "the first kill came while there was work"

    events = mill.completions(REQUESTS, 300)

    check(mill, asked, events)
    mill.letters(0, seconds=1)
    eventually(lambda: mill.committed() == REQUESTS, "every offset to be committed", 60)
    late = sum(count < REQUESTS for count in progress)
    spoken = sum(not event.cache_hit for event in events)
    print(f"\n{KILLS} SIGKILLs ({late} under load), {REQUESTS} requests, {spoken} spoken")  # noqa: T201


def test_a_second_worker_of_a_name_is_refused_on_the_same_machine(mill: Mill) -> None:
    first = mill.start_process("twin")
    eventually(lambda: "worker ready" in first.log.read_text(), "the first to be ready", 60)
    second = mill.start_process("twin-again", SPEECHMILL_WORKER__NAME="twin")

    assert eventually(lambda: second.wait(0.2), "the second to end", 30) == 2
    assert f"twin is held by process {first.pid} on" in second.log.read_text()
    assert first.returncode is None


def test_of_two_workers_under_one_id_the_older_stops(mill: Mill) -> None:
    older = mill.start_process("same")
    mill.ask("For the older.")
    mill.completions(1)
    younger = mill.start_process(
        "same-again",
        SPEECHMILL_WORKER__NAME="same",
        # As on another machine: here the lock on the name would refuse it.
        SPEECHMILL_WORKER__SLOT_DIR=str(mill.folder / "elsewhere"),
    )
    eventually(
        lambda: any(line["event"] == "worker ready" for line in mill.log_of(younger)),
        "the younger to be ready", 60,
    )  # fmt: skip
    asked = [mill.ask(f"For both, {n}.", partition=n % 8).request_id for n in range(80)]
    status = eventually(lambda: older.wait(0.2), "the older to stop", 60)

    assert status == 1
    assert "Fenced" in older.log.read_text()
    assert younger.returncode is None
    events = [event for event in mill.completions(81, 60) if event.request_id in asked]
    check(mill, asked, events)
