"""Workers are killed, frozen and doubled under load.

Each test first proves that the fault happened, then that there was progress, and then lets the
witness judge. ``KILLS`` in the environment makes the kills more: one half at random, the other
spread over the named points.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.faults import doomed
from tests.faults.doomed import POINTS, Spoken, doomed_at
from tests.faults.invariants import check, witness_of
from tests.faults.witness import Partition, Witness
from tests.integration.mill import Mill
from tests.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("KILLS", "10"))
AT_RANDOM = max(4, KILLS // 2)
AT_A_POINT = max(1, -(-(KILLS - AT_RANDOM) // len(POINTS)))

SMALL = {"SPEECHMILL_WORKER__WINDOW_REQUESTS": "64"}
WINDOW = 64
SESSION_S = 3
#: A device that two workers can't feed with what is asked: there is always a batch under way.
SLOW = {
    **SMALL,
    "SPEECHMILL_KAFKA__SESSION_TIMEOUT_MS": str(1000 * SESSION_S),
    # What a dead worker's open transaction holds back is held back for as long as this.
    "SPEECHMILL_KAFKA__TRANSACTION_TIMEOUT_MS": "5000",
    "SPEECHMILL_ENGINE__MAX_BATCH": "8",
    "SPEECHMILL_SIMULATED__BASE_MS": "60",
    "SPEECHMILL_SIMULATED__ITEM_MS": "5",
}


def text(number: int) -> str:
    return f"Number {number}. " + "It goes on for some sentences. " * (number % 7)


class Feed:
    """Asks without end, on each partition of both topics in turn, so that there is always work.

    ``asked`` is what was asked for, by partition. Each request is one segment of its own, so that
    what is spoken can be counted.
    """

    def __init__(self, mill: Mill, ahead: int) -> None:
        self._mill = mill
        self._witness = witness_of(mill)
        self._ahead = ahead
        self.asked: dict[Partition, list[str]] = {
            partition: [] for partition in self._witness.committed()
        }
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: BaseException | None = None
        self._thread.start()

    @property
    def count(self) -> int:
        return sum(map(len, self.asked.values()))

    @property
    def all(self) -> list[str]:
        return [name for names in self.asked.values() for name in names]

    def stop(self) -> None:
        """Ask no more. Raises what ended it before."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._ask()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self._error = error

    def _ask(self) -> None:
        partitions = list(self.asked)
        while not self._stop.wait(0.1):
            for number in range(self.count, self._witness.done() + self._ahead):
                topic, partition = partitions[number % len(partitions)]
                urgent = topic == self._mill.settings.kafka.priority
                request = self._mill.ask(
                    f"This is number {number}.", partition=partition, urgent=urgent
                )
                self.asked[topic, partition].append(request.request_id)


@contextmanager
def fed(mill: Mill, ahead: int = 160) -> Iterator[Feed]:
    feed = Feed(mill, ahead)
    try:
        yield feed
    finally:
        feed.stop()


def until_shared(witness: Witness, count: int) -> dict[str, set[Partition]]:
    """Wait until ``count`` workers have all partitions among them, and each has some: its share."""
    found: dict[str, set[Partition]] = {}

    def shared() -> bool:
        found.clear()
        found.update(witness.shares())
        return len(found) == count and all(found.values())

    eventually(shared, f"{count} workers to share the partitions", 60)
    return found


def moved(witness: Witness, before: Mapping[Partition, int]) -> set[Partition]:
    """The partitions that have got on since ``before``."""
    now = witness.committed()
    return {partition for partition, offset in before.items() if now[partition] > offset}


def until_all_move(witness: Witness, seconds: float) -> float:
    """Seconds until every partition has got on from where it is now."""
    began, before = time.monotonic(), witness.committed()
    eventually(lambda: moved(witness, before) == set(before), "each partition to move", seconds)
    return time.monotonic() - began


def until_resumed(witness: Witness, dead: str) -> float:
    """Seconds until the work goes on that a worker had who has just died."""
    began, before = time.monotonic(), witness.committed()
    # The group keeps the dead for a session. Where it was being shared out anew: any work.
    left = witness.shares().get(dead) or set(before)
    eventually(lambda: moved(witness, before) & left, f"the work of {dead}", SESSION_S + 10)
    return time.monotonic() - began


def test_a_worker_that_dies_at_a_point_loses_nothing_and_doubles_nothing(mill: Mill) -> None:
    dice = random.Random(20261122)  # noqa: S311 - a repeatable test, not a secret
    spoken, witness = Spoken(mill.folder), witness_of(mill)
    healthy = doomed.start(mill, "healthy", spoken, SLOW)
    waits = []
    with witness.watching() as watch, fed(mill) as feed:
        for number, point in enumerate(AT_A_POINT * list(POINTS)):
            # The same slot each time, so the same transactional id.
            slot = {**SLOW, "SPEECHMILL_WORKER__NAME": "victim"}
            victim = doomed.start(
                mill, f"{point}-{number}", spoken, slot, point, dice.randint(1, 5)
            )
            status = eventually(lambda: victim.wait(0.01), f"a death at {point}", 60)  # noqa: B023
            assert (status, doomed_at(victim)) == (-signal.SIGKILL, point)
            waits.append(until_resumed(witness, "victim"))
            assert witness.done() < feed.count, "it died under load"
    assert healthy.returncode is None

    check(mill, feed.all)
    assert watch.looks
    assert not watch.violations
    assert spoken.again() <= len(waits) * WINDOW, "no more than a window a kill is done once more"
    print(  # noqa: T201
        f"\n{len(waits)} SIGKILLs at {len(POINTS)} points; {feed.count} requests, "
        f"{spoken.again()} spoken again; their work went on after {max(waits):.1f} s at most"
    )


def test_sigkill_at_random_loses_nothing_and_doubles_nothing(mill: Mill) -> None:
    dice = random.Random(20261122)  # noqa: S311 - a repeatable test, not a secret
    spoken, witness = Spoken(mill.folder), witness_of(mill)
    names = ["one", "two"]
    workers = {name: doomed.start(mill, name, spoken, SLOW) for name in names}
    waits = []
    with witness.watching() as watch, fed(mill) as feed:
        until_shared(witness, 2)
        for kill in range(AT_RANDOM):
            name = dice.choice(names)
            victim = workers[name]
            time.sleep(dice.uniform(0.0, 2.0))  # the fault's own rhythm: nothing is waited for
            assert victim.returncode is None, "it ran until now"
            victim.kill()
            assert victim.wait(10) == -signal.SIGKILL
            # The same slot, so the same transactional id.
            again = {**SLOW, "SPEECHMILL_WORKER__NAME": name}
            workers[name] = doomed.start(mill, f"{name}-{kill}", spoken, again)
            assert witness.done() < feed.count, "it was killed under load"
            if dice.random() < 0.75:  # else the next one may die before anything has moved
                waits.append(until_resumed(witness, name))

    events = check(mill, feed.all)
    assert watch.looks
    assert not watch.violations
    assert spoken.again() <= AT_RANDOM * WINDOW, "no more than a window a kill is done once more"
    print(  # noqa: T201
        f"\n{AT_RANDOM} SIGKILLs at random; {len(events)} requests, {spoken.again()} spoken again; "
        f"their work went on after {max(waits):.1f} s at most"
    )


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
