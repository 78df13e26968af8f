"""A request that kills whatever worker takes it ends as a dead letter, and its mates are served."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from processor.events import Status
from processor.local.child import Child
from tests.integration.mill import Mill
from tests.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

DEVICE = {
    "SPEECHMILL_ENGINE__NAME": "simulated",
    "SPEECHMILL_ENGINE__MAX_BATCH": "4",
    "SPEECHMILL_SIMULATED__BASE_MS": "20",
    "SPEECHMILL_SIMULATED__ITEM_MS": "2",
    "SPEECHMILL_SIMULATED__FAULTS": json.dumps({"DEADLY": "kill"}),
}


class Supervised:
    """One worker name whose worker is started again whenever it dies."""

    def __init__(self, mill: Mill, name: str) -> None:
        self.deaths = 0
        self._mill = mill
        self._name = name
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _start(self) -> Child:
        return self._mill.start_process(
            f"{self._name}-{self.deaths}", **DEVICE, SPEECHMILL_WORKER__NAME=self._name
        )

    def _run(self) -> None:
        worker = self._start()
        while not self._over.is_set():
            status = worker.wait(0.1)
            if status is not None:
                assert status == -signal.SIGKILL
                self.deaths += 1
                worker = self._start()


@contextmanager
def supervised(mill: Mill, *names: str) -> Iterator[list[Supervised]]:
    workers = [Supervised(mill, name) for name in names]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.stop()


def judge(mill: Mill, good: list[str], deadly: list[str], seconds: float) -> list[int]:
    """All good requests are completed, the deadly ones failed, with their letters; the attempts."""
    events = mill.completions(len(good) + len(deadly), seconds)
    by_id = {event.request_id: event for event in events}
    assert set(by_id) == {*good, *deadly}
    assert [name for name in good if by_id[name].status is not Status.COMPLETED] == []
    for name in deadly:
        error = by_id[name].error
        assert by_id[name].status is Status.FAILED
        assert error is not None
        assert (error.code, error.retryable) == ("WORKER_DIED", False)
    letters = mill.letters(len(deadly))
    assert {letter.headers["speechmill.error.code"] for letter in letters} == {b"WORKER_DIED"}
    assert {letter.key for letter in letters} == {name.encode() for name in deadly}
    eventually(lambda: mill.committed() == len(events), "every offset to be committed")
    return [by_id[name].attempt for name in deadly]


def test_alone_it_is_refused_after_three_deaths_of_its_own(mill: Mill) -> None:
    deadly = mill.ask("A DEADLY request.", partition=3).request_id
    with supervised(mill, "one") as (worker,):
        (attempt,) = judge(mill, [], [deadly], 120)
        after = mill.ask("Whoever comes after it is served.", partition=3).request_id
        judge(mill, [after], [deadly], 60)

    print(f"\none deadly request alone: {worker.deaths} deaths")  # noqa: T201
    # The first death can't be held against it: other records might have been under way.
    assert worker.deaths == 4
    assert attempt == 5


def test_its_mates_are_served_before_and_after_it(mill: Mill) -> None:
    good, deadly = [], []
    for number in range(120):
        here = number % mill.partitions
        if number == 50:
            deadly.append(mill.ask("A DEADLY request.", partition=here).request_id)
        good.append(mill.ask(f"Good request {number}.", partition=here).request_id)
    with supervised(mill, "one", "two") as workers:
        judge(mill, good, deadly, 240)

    deaths = sum(worker.deaths for worker in workers)
    print(f"\none deadly request among {len(good)} good ones: {deaths} deaths")  # noqa: T201
    assert deaths >= 4
