"""Which segments go to the device together, and when.

Owns the pool of segments that wait. ``choose`` decides and touches nothing; ``Batcher`` keeps the
pool, and lets lanes wait for work without polling. Knows no engine and no Kafka.
"""

import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

__all__ = ["BatchLimits", "Batcher", "Waiting", "choose", "weigh"]


#: How long a Latin letter of speech takes to play, roughly, in seconds.
_SECONDS_PER_WEIGHT = 0.06
#: Requests that one choice looks at: enough to fill any batch, and it bounds the cost of choosing.
_LOOK_AHEAD = 512


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

    ``groups`` are the weights of the waiting segments of each request, the most urgent request
    first; none is empty. The first segment of the first group is always taken; then the batch is
    filled in order of urgency, as long as the weights stay within ``spread`` of each other.
    """
    counts = [0] * len(groups)
    if not groups:
        return counts
    low = high = groups[0][0]
    total = 0
    for number, weights in enumerate(groups):
        for weight in weights:
            fits = max(high, weight) <= limits.spread * min(low, weight)
            if not fits or total == limits.max_batch:
                break
            low, high = min(low, weight), max(high, weight)
            counts[number] += 1
            total += 1
    return counts


S = TypeVar("S", bound=Waiting)


@dataclass(slots=True)
class _Group(Generic[S]):
    """One request's waiting segments. ``due`` is what makes it urgent."""

    since: float
    due: float
    waiting: deque[S]
    begun: bool = False


class Batcher(Generic[S]):
    """The pool. ``put`` from any thread, ``take`` from one thread a lane.

    A request is due when it came plus the time that it takes to play: a greeting behind a book is
    spoken at once, two of a length are spoken in the order in which they came, and whatever has
    waited for long enough comes before all that is new, so nothing starves.
    """

    def __init__(
        self,
        limits: BatchLimits,
        clock: Callable[[], float] = time.monotonic,
        full: Callable[[], bool] = lambda: False,
    ) -> None:
        """While ``full`` says so, only requests that were begun go on: they must end to make room.
        Call ``wake`` when it may have changed."""
        self._full = full
        self._limits = limits
        self._clock = clock
        self._groups: list[_Group[S]] = []  # by due
        self._last_due: dict[Hashable, float] = {}  # as many as there are partitions
        self._changed = threading.Condition()
        self._closed = False

    def put(self, segments: Sequence[S], lane: Hashable = None) -> None:
        """Add one request's segments, in order.

        Requests of one ``lane`` are answered in their order, so a later one is never due before
        an earlier one: that would speak what nobody could hear yet.
        """
        now = self._clock()
        due = now + sum(segment.weight for segment in segments) * _SECONDS_PER_WEIGHT
        with self._changed:
            if lane is not None:
                due = self._last_due[lane] = max(due, self._last_due.get(lane, due))
            insort(self._groups, _Group(now, due, deque(segments)), key=attrgetter("due"))
            self._changed.notify_all()

    def take(self) -> list[S]:
        """The next batch; blocks until there is one. Empty once the pool is closed."""
        with self._changed:
            while True:
                self._forget_dropped()
                if self._closed:
                    return []
                groups = self._candidates()
                counts = self._choice(groups)
                wait = self._wait(groups, counts)
                if wait == 0:
                    return self._remove(groups, counts)
                self._changed.wait(wait)

    def wake(self) -> None:
        """Look again at what ``full`` says."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Let every ``take`` return empty-handed; what waits is forgotten."""
        with self._changed:
            self._closed = True
            self._groups.clear()
            self._changed.notify_all()

    def _candidates(self) -> list[_Group[S]]:
        if self._full():
            return [group for group in self._groups if group.begun]
        return self._groups[:_LOOK_AHEAD]

    def _choice(self, groups: Sequence[_Group[S]]) -> list[int]:
        # A batch takes no more than max_batch, so no more need be looked at.
        most = self._limits.max_batch
        return choose(
            [[segment.weight for segment in islice(group.waiting, most)] for group in groups],
            self._limits,
        )

    def _wait(self, groups: Sequence[_Group[S]], counts: Sequence[int]) -> float | None:
        """Seconds until the batch may go: 0 now, None when something must come first."""
        if not groups:
            return None
        if sum(counts) >= self._limits.max_batch:
            return 0
        oldest = min(group.since for group in groups)
        return max(0.0, oldest + self._limits.max_wait_s - self._clock())

    def _remove(self, groups: Sequence[_Group[S]], counts: Sequence[int]) -> list[S]:
        batch: list[S] = []
        for group, count in zip(groups, counts, strict=True):
            batch += [group.waiting.popleft() for _ in range(count)]
            group.begun = group.begun or count > 0
        self._groups = [group for group in self._groups if group.waiting]
        return batch

    def _forget_dropped(self) -> None:
        # A request is dropped as a whole, so its first segment speaks for all.
        if any(group.waiting[0].dropped for group in self._groups):
            self._groups = [group for group in self._groups if not group.waiting[0].dropped]
