"""Daemon threads that run what they are given."""

import queue
import threading
from functools import partial

import pytest

from processor.pool import Pool

pytestmark = pytest.mark.unit

#: Seconds until a test gives up on what should happen at once.
_PATIENCE_S = 20.0


def threads_of(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{name}-")]


def wait_for(event: threading.Event) -> None:
    event.wait(_PATIENCE_S)


def test_every_task_is_run_once() -> None:
    pool = Pool("every", 4)
    done: queue.SimpleQueue[int] = queue.SimpleQueue()

    for number in range(500):
        pool.submit(partial(done.put, number))

    assert sorted(done.get(timeout=_PATIENCE_S) for _ in range(500)) == list(range(500))
    assert done.empty()
    pool.close()


def test_the_oldest_task_is_run_first() -> None:
    pool = Pool("oldest", 1)
    begin, done = threading.Event(), queue.SimpleQueue[str]()
    pool.submit(partial(wait_for, begin))
    for name in "abc":
        pool.submit(partial(done.put, name))

    begin.set()

    assert [done.get(timeout=_PATIENCE_S) for _ in "abc"] == ["a", "b", "c"]
    pool.close()


def test_as_many_tasks_run_at_once_as_there_are_threads() -> None:
    pool = Pool("together", 3)
    together = threading.Barrier(4)

    def task() -> None:
        together.wait(_PATIENCE_S)

    for _ in range(3):
        pool.submit(task)

    together.wait(_PATIENCE_S)  # breaks unless all three wait with us
    pool.close()


def test_its_threads_carry_its_name_and_do_not_hold_up_the_interpreters_end() -> None:
    pool = Pool("named", 2)

    assert sorted(thread.name for thread in threads_of("named")) == ["named-0", "named-1"]
    assert all(thread.daemon for thread in threads_of("named"))
    pool.close()


def test_close_returns_at_once_and_the_threads_end_after_what_was_submitted() -> None:
    pool = Pool("closing", 2)
    threads = threads_of("closing")
    begin, done = threading.Event(), queue.SimpleQueue[str]()

    def task() -> None:
        wait_for(begin)
        done.put("done")

    for _ in range(5):
        pool.submit(task)

    pool.close()  # would never return if it waited: nothing has begun
    begin.set()

    assert [done.get(timeout=_PATIENCE_S) for _ in range(5)] == ["done"] * 5
    for thread in threads:
        thread.join(_PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads)
