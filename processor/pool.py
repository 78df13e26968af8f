"""Threads for work that waits on I/O.

The standard library's executor joins its threads when the interpreter ends, so one upload that
hangs would hold up a stop past every deadline. These are daemon threads: the worker says what it
waits for, and for how long.
"""

import queue
import threading
from collections.abc import Callable

__all__ = ["Pool"]


class Pool:
    """``size`` threads that run what is given to them, oldest first."""

    def __init__(self, name: str, size: int) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Callable[[], None]) -> None:
        """Run ``task`` soon. It must catch what it raises: there is nobody to tell."""
        self._tasks.put(task)

    def close(self) -> None:
        """Let the threads end after what was submitted; does not wait for them."""
        for _ in self._threads:
            self._tasks.put(None)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
