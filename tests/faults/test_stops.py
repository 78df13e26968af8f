"""Workers are stopped as they should be, in the middle of their work, and are made more and fewer.

Nothing may be done twice then: who is asked to stop finishes what it has begun, and commits it.
``STOPS`` and ``ROUNDS`` in the environment make it longer.
"""

import os
import random

import pytest

from processor.local.child import Child
from tests.faults import doomed
from tests.faults.doomed import Spoken
from tests.faults.invariants import check, check_order, witness_of
from tests.faults.test_kills import SLOW, fed, until_all_move, until_shared
from tests.integration.mill import Mill
from tests.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(3600)]

STOPS = int(os.environ.get("STOPS", "5"))
ROUNDS = int(os.environ.get("ROUNDS", "1"))
STOP_S = 25


def test_a_stop_in_mid_batch_does_nothing_twice(mill: Mill) -> None:
    spoken, witness = Spoken(mill.folder), witness_of(mill)
    in_mid_batch = 0
    with witness.watching() as watch, fed(mill) as feed:
        for stop in range(STOPS):
            worker = doomed.start(mill, f"worker-{stop}", spoken, SLOW)
            before = spoken.counts().total()
            eventually(lambda: spoken.counts().total() > before + 50, "work", 60)  # noqa: B023
            in_mid_batch += eventually(spoken.under_way, "a batch on the device") > 0
            worker.terminate()
            assert worker.wait(STOP_S) == 0, f"SIGTERM ends it within {STOP_S} s, cleanly"
            assert spoken.under_way() == 0, "the batch was waited for"
            assert witness.done() < feed.count, "it was stopped under load"
    doomed.start(mill, "last", spoken, SLOW)

    check(mill, feed.all)
    assert watch.looks
    assert not watch.violations
    assert in_mid_batch == STOPS
    assert spoken.again() == 0
    print(f"\n{STOPS} SIGTERMs in mid-batch; {feed.count} requests, none spoken twice")  # noqa: T201


def test_workers_come_and_go_under_load_and_the_order_is_kept(mill: Mill) -> None:
    dice = random.Random(20261122)  # noqa: S311 - a repeatable test, not a secret
    spoken, witness = Spoken(mill.folder), witness_of(mill)
    number = 0

    def add() -> Child:
        nonlocal number
        number += 1
        return doomed.start(mill, f"worker-{number}", spoken, SLOW)

    workers = [add()]
    with witness.watching() as watch, fed(mill) as feed:
        for _ in range(ROUNDS):
            workers += [add(), add(), add()]
            until_shared(witness, 4)
            until_all_move(witness, 30)
            dice.shuffle(workers)
            for worker in workers[1:]:
                worker.terminate()
            for worker in workers[1:]:
                assert worker.wait(STOP_S) == 0, f"SIGTERM ends it within {STOP_S} s, cleanly"
            del workers[1:]
            until_shared(witness, 1)
            until_all_move(witness, 30)

    check(mill, feed.all)
    check_order(mill, feed.asked)
    assert watch.looks
    assert not watch.violations
    assert spoken.again() == 0
    print(f"\n{ROUNDS} times 1, 4, 1 workers; {feed.count} requests, none spoken twice")  # noqa: T201
