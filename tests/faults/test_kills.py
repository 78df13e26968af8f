"""Workers are killed, frozen, doubled and rescaled under load.

Each test first proves that the fault happened and that there was progress. ``KILLS`` in the
environment makes the first one longer.
"""

import os
import random
import signal
import time
from collections import defaultdict

import pytest

from processor.local.child import Child
from tests.faults.invariants import check, check_order
from tests.integration.mill import Mill
from tests.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(3000)]

KILLS = int(os.environ.get("KILLS", "8"))
#: Requests for each kill: more than a worker can do between two of them.
REQUESTS = 60 * KILLS
SMALL = {"SPEECHMILL_WORKER__WINDOW_REQUESTS": "64"}


def text(number: int) -> str:
    return f"Number {number}. " + "It goes on for some sentences. " * (number % 7)


def test_sigkill_at_random_loses_nothing_and_doubles_nothing(mill: Mill) -> None:
    dice = random.Random(20261122)  # noqa: S311 - a repeatable test, not a secret
    names = ["one", "two"]
    workers: dict[str, Child] = {name: mill.start_process(name, **SMALL) for name in names}
    asked = [mill.ask(text(n)).request_id for n in range(REQUESTS)]
    eventually(lambda: mill.committed() > 0, "a beginning", 60)

    progress = []
    for kill in range(KILLS):
        name = names[kill % 2]
        victim = workers[name]
        time.sleep(dice.uniform(2.0, 4.0))  # the fault's own rhythm: nothing is waited for
        assert victim.returncode is None, "it ran until now"
        victim.kill()
        assert victim.wait(10) == -signal.SIGKILL
        progress.append(mill.committed())
        # The same slot, so the same transactional id.
        again = {**SMALL, "SPEECHMILL_WORKER__NAME": name}
        workers[name] = mill.start_process(f"{name}-{kill}", **again)
    assert progress[0] < REQUESTS, "the first kill came while there was work"

    events = check(mill, asked)

    loaded = sum(count < REQUESTS for count in progress)
    spoken = sum(not event.cache_hit for event in events)
    print(f"\n{KILLS} SIGKILLs, {loaded} under load; {REQUESTS} requests, {spoken} not cached")  # noqa: T201


def test_a_worker_frozen_past_its_session_publishes_nothing_when_it_thaws(mill: Mill) -> None:
    zombie = mill.start_process("zombie", **SMALL)
    asked = [mill.ask(text(n)).request_id for n in range(200)]
    eventually(lambda: mill.committed() > 0, "a beginning", 60)
    zombie.signal(signal.SIGSTOP)
    before = mill.committed()
    assert before < 200, "it was frozen in the middle of its work"
    mill.start_process("heir", **SMALL)
    eventually(lambda: mill.committed() == 200, "the heir to do the rest", 120)
    zombie.signal(signal.SIGCONT)
    eventually(
        lambda: "partitions lost" in zombie.log.read_text() or zombie.returncode is not None,
        "the zombie to hear of it", 60,
    )  # fmt: skip

    check(mill, asked)


def test_workers_come_and_go_under_load_and_the_order_is_kept(mill: Mill) -> None:
    asked: dict[int, list[str]] = defaultdict(list)

    def ask(count: int) -> None:
        for n in range(count):
            asked[n % 8].append(mill.ask(text(n), partition=n % 8).request_id)

    workers = [mill.start_process("w0", **SMALL)]
    ask(160)
    eventually(lambda: mill.committed() > 0, "a beginning", 60)
    for number in (1, 2):
        workers.append(mill.start_process(f"w{number}", **SMALL))
        ask(80)
        eventually(lambda: "partitions assigned" in workers[-1].log.read_text(), "its share", 60)
    for worker in workers[:2]:
        worker.terminate()
        assert worker.wait(25) == 0, "SIGTERM ends it within 25 s, cleanly"
        ask(40)

    check(mill, [name for names in asked.values() for name in names])
    check_order(mill, asked)


def test_a_second_worker_of_a_name_is_refused_on_the_same_machine(mill: Mill) -> None:
    first = mill.start_process("twin")
    eventually(lambda: "worker ready" in first.log.read_text(), "the first to be ready", 60)
    second = mill.start_process("twin-again", SPEECHMILL_WORKER__NAME="twin")

    assert eventually(lambda: second.wait(0.2), "the second to end", 30) == 2
    assert f"twin is held by process {first.pid} on" in second.log.read_text()
    assert first.returncode is None


def test_of_two_workers_under_one_id_the_older_stops(mill: Mill) -> None:
    older = mill.start_process("same")
    asked = [mill.ask("For the older.").request_id]
    mill.completions(1)
    younger = mill.start_process(
        "same-again",
        SPEECHMILL_WORKER__NAME="same",
        # As on another machine: here the lock on the name would refuse it.
        SPEECHMILL_WORKER__SLOT_DIR=str(mill.folder / "elsewhere"),
    )
    eventually(lambda: "worker ready" in younger.log.read_text(), "the younger to be ready", 60)
    asked += [mill.ask(f"For both, {n}.", partition=n % 8).request_id for n in range(80)]
    status = eventually(lambda: older.wait(0.2), "the older to stop", 60)

    assert status == 1
    assert "Fenced" in older.log.read_text()
    assert younger.returncode is None
    check(mill, asked)
