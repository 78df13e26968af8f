"""Which segments go to the device together, and when.

Owns the pool of segments that wait. ``choose`` decides and touches nothing; ``Batcher`` keeps the
pool, and lets lanes wait for work without polling. Knows no engine and no Kafka.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, Protocol, TypeVar

__all__ = ["BatchLimits", "Batcher", "Waiting", "choose", "weigh"]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """``spread`` bounds padding: no weight in a batch is more than that many times another."""

    max_batch: int
    max_wait_s: float
    spread: float = 2.0


class Waiting(Protocol):
    """A segment in the pool."""

    @property
    def weight(self) -> float:
        """Its predicted length, in any unit."""
        ...

    @property
    def dropped(self) -> bool:
        """True once nobody wants it any more: it leaves the pool without a word."""
        ...


def weigh(text: str) -> float:
    """Predicted length in Latin letters: a Chinese character is a syllable, about three of them."""
    return sum(3.0 if char > "\u2e7f" else 1.0 for char in text)


def choose(groups: Sequence[Sequence[float]], limits: BatchLimits) -> list[int]:
    """How many segments to take from each group's front, for one batch.

    ``groups`` are the weights of the waiting segments of each request, the request whose turn it is
    first; none is empty. The first segment of the first group is always taken, so every request's
    turn comes; then one from each group in turn, as long as the batch has room and the weights stay
    within ``spread`` of each other.
    """
    counts = [0] * len(groups)
    if not groups:
        return counts
    low = high = groups[0][0]
    total, added = 0, True
    while added and total < limits.max_batch:
        added = False
        for number, weights in enumerate(groups):
            if total == limits.max_batch:
                break
            if counts[number] == len(weights):
                continue
            weight = weights[counts[number]]
            if max(high, weight) > limits.spread * min(low, weight):
                continue
            low, high = min(low, weight), max(high, weight)
            counts[number] += 1
            total += 1
            added = True
    return counts


S = TypeVar("S", bound=Waiting)


@dataclass(slots=True)
class _Group(Generic[S]):
    """One request's waiting segments."""

    since: float
    waiting: deque[S] = field(default_factory=deque)


class Batcher(Generic[S]):
    """The pool. ``put`` from any thread, ``take`` from one thread a lane."""

    def __init__(self, limits: BatchLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._groups: deque[_Group[S]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, segments: Sequence[S]) -> None:
        """Add one request's segments, in order."""
        with self._changed:
            self._groups.append(_Group(self._clock(), deque(segments)))
            self._changed.notify_all()

    def take(self) -> list[S]:
        """The next batch; blocks until there is one. Empty once the pool is closed."""
        with self._changed:
            while True:
                self._forget_dropped()
                if self._closed:
                    return []
                counts = self._choice()
                wait = self._wait(counts)
                if wait == 0:
                    return self._remove(counts)
                self._changed.wait(wait)

    def close(self) -> None:
        """Let every ``take`` return empty-handed; what waits is forgotten."""
        with self._changed:
            self._closed = True
            self._groups.clear()
            self._changed.notify_all()

    def _choice(self) -> list[int]:
        # A batch takes no more than max_batch from one group, so no more need be looked at.
        front = [
            [segment.weight for segment in islice(group.waiting, self._limits.max_batch)]
            for group in self._groups
        ]
        return choose(front, self._limits)

    def _wait(self, counts: Sequence[int]) -> float | None:
        """Seconds until the batch may go: 0 now, None when something must come first."""
        if not self._groups:
            return None
        if sum(counts) >= self._limits.max_batch:
            return 0
        oldest = min(group.since for group in self._groups)
        return max(0.0, oldest + self._limits.max_wait_s - self._clock())

    def _remove(self, counts: Sequence[int]) -> list[S]:
        batch: list[S] = []
        served = deque[_Group[S]]()
        for count in counts:
            group = self._groups.popleft()
            batch += [group.waiting.popleft() for _ in range(count)]
            if group.waiting:
                (served if count else self._groups).append(group)
        self._groups.extend(served)  # whoever was served goes to the end of the queue
        return batch

    def _forget_dropped(self) -> None:
        for group in self._groups:
            if group.waiting[0].dropped:
                group.waiting.clear()
        if any(not group.waiting for group in self._groups):
            self._groups = deque(group for group in self._groups if group.waiting)
