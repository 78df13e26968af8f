"""How long to go on trying when a service does not answer: one place for all waiting.

Owns back-off. An outage is waited out, with a growing and jittered pause, for as long as somebody
still wants the result; it never fails a request.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog
import tenacity

from processor.errors import StoreError, Unavailable

__all__ = ["Abandoned", "Patience"]

R = TypeVar("R")
_log = structlog.get_logger()

#: Longest pause between two tries, in seconds: work resumes at most this long after recovery.
MAX_PAUSE_S = 5.0


class Abandoned(Exception):
    """Nobody wants the result any more: the partition was lost, or the worker ends."""


class Patience:
    """Retries through outages. One for a whole worker; ``end`` wakes and ends every wait."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._waits: dict[int, str] = {}  # by thread

    @property
    def outage(self) -> str | None:
        """What is waited for at this moment, None if nothing is. From any thread."""
        return next(iter(self._waits.copy().values()), None)

    def end(self) -> None:
        self._ended.set()

    def through(self, call: Callable[[], R], *, unwanted: Callable[[], bool]) -> R:
        """``call()``, again and again while it raises Unavailable.

        A store that refuses our own keys (no bucket, no right) is an outage too: it would refuse
        every request, and the one at hand is not to blame. Raises Abandoned once ``unwanted``.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((Unavailable, StoreError)),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=MAX_PAUSE_S),
            stop=lambda _: self._ended.is_set() or unwanted(),
            sleep=self._pause,
            before_sleep=self._report,
        )
        try:
            return retrying(call)
        except tenacity.RetryError as error:
            raise Abandoned from error
        finally:
            self._waits.pop(threading.get_ident(), None)

    def _pause(self, seconds: float) -> None:
        self._ended.wait(seconds)

    def _report(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._waits[threading.get_ident()] = str(error)
        _log.warning("waiting for a service", attempt=state.attempt_number, reason=str(error))
