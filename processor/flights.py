"""Requests for a result that is being worked for already: they wait for it, and cost nothing.

Owns who works for which result, and who waits for it. Any thread may call.
"""

import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

__all__ = ["Flights"]

R = TypeVar("R")


class Flights(Generic[R]):
    """``R`` is what comes of the work, or None if nothing did."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, list[Callable[[R | None], None]]] = {}
        self._result_of: dict[Hashable, Hashable] = {}

    def first(self, result: Hashable, who: Hashable, told: Callable[[R | None], None]) -> bool:
        """Whether ``who`` is to work for ``result``. If not, ``told`` is called with what came of
        it, from the thread of whoever worked for it, and must return at once."""
        with self._lock:
            others = self._waiting.get(result)
            if others is not None:
                others.append(told)
                return False
            self._waiting[result] = []
            self._result_of[who] = result
            return True

    def land(self, who: Iterable[Hashable], came_of_it: R | None) -> None:
        """These work no longer; who does not work for anything is passed over."""
        with self._lock:
            results = [self._result_of.pop(one) for one in who if one in self._result_of]
            waiting = [told for result in results for told in self._waiting.pop(result)]
        for told in waiting:
            told(came_of_it)
