"""Waiting for a condition with a deadline: the only place here that sleeps."""

import time
from collections.abc import Callable

POLL_S = 0.05
"""Short against a broker's start (seconds), long against the cost of asking (about 1 ms)."""


def wait_until(condition: Callable[[], bool], deadline: float, what: str = "the condition") -> None:
    """Return as soon as `condition()` is true, asking at least once.

    Args:
        condition: called every `POLL_S` seconds; what it raises goes to the caller at once.
        deadline: seconds from now.
        what: what is waited for, for the message.

    Raises:
        TimeoutError: it was still false when `deadline` seconds had passed.
    """
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() >= end:
            raise TimeoutError(f"{what}: not within {deadline:g} s")
        time.sleep(POLL_S)
