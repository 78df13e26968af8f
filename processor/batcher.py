"""Which segments go to the device together, and when.

Owns the pool of segments that wait. ``choose`` decides and touches nothing; ``Batcher`` keeps the
pool, and lets lanes wait for work without polling. Knows no engine and no Kafka.
"""

import math
import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

__all__ = ["BatchLimits", "Batcher", "Waiting", "choose"]


#: Requests that one choice looks at: enough to fill any batch, and it bounds the cost of choosing.
_LOOK_AHEAD = 512
#: Batches in a row that may pass the ordinary requests over for urgent ones.
_PASSED_OVER = 4
#: After the device was out of memory, each batch that fits lets the bound grow by so much.
_GROWTH = 1.01


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """``spread``: segments that are no more than so many times as long as each other go together
    first. ``max_padding`` bounds what a batch may hold beyond them: it is no more than so many
    times as long, padding included, as its audio. ``mixed``: neither, as lengths may be mixed
    freely. ``max_padded_s`` bounds memory: as many segments
    as there are, times the longest.
    """

    max_batch: int
    max_wait_s: float
    spread: float = 2.0
    max_padding: float = 1.6
    mixed: bool = False
    max_padded_s: float = math.inf


class Waiting(Protocol):
    """A segment in the pool."""

    @property
    def seconds(self) -> float:
        """How long its audio will be, as predicted."""
        ...

    @property
    def dropped(self) -> bool:
        """True once nobody wants it any more: it leaves the pool without a word."""
        ...

    @property
    def late(self) -> bool:
        """True once its deadline has passed: it leaves the pool and costs the device nothing."""
        ...


def choose(groups: Sequence[Sequence[float]], limits: BatchLimits) -> list[int]:
    """How many segments to take from each group's front, for one batch.

    ``groups`` are the seconds of the waiting segments of each request, the most urgent request
    first; none is empty. The first segment of the first group is always taken. The batch is filled
    in order of urgency: first with what is about as long, so that padding is small where many wait;
    then, if there is room, with the rest, as a batch that is half empty costs more than padding.
    """
    counts = [0] * len(groups)
    if not groups:
        return counts
    batch = _Batch(limits)
    for fits in (batch.matches, batch.bears):
        for number, group in enumerate(groups):
            for seconds in islice(group, counts[number], None):
                if batch.size == limits.max_batch:
                    return counts
                if batch.size and not fits(seconds):
                    break
                batch.add(seconds)
                counts[number] += 1
    return counts


class _Batch:
    """A batch as it grows."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self.size = 0
        self._sum = 0.0
        self._low = math.inf
        self._high = 0.0

    def add(self, seconds: float) -> None:
        self.size += 1
        self._sum += seconds
        self._low = min(self._low, seconds)
        self._high = max(self._high, seconds)

    def matches(self, seconds: float) -> bool:
        """Whether it is about as long as all the others, and the device has the memory."""
        low, high = min(self._low, seconds), max(self._high, seconds)
        even = self._limits.mixed or high <= self._limits.spread * low
        return even and self._padded(high) <= self._limits.max_padded_s

    def bears(self, seconds: float) -> bool:
        """Whether there is not too much padding with it, and the device has the memory."""
        padded = self._padded(max(self._high, seconds))
        most = self._limits.max_padding * (self._sum + seconds)
        return padded <= self._limits.max_padded_s and (self._limits.mixed or padded <= most)

    def _padded(self, longest: float) -> float:
        return (self.size + 1) * longest


S = TypeVar("S", bound=Waiting)


@dataclass(slots=True)
class _Group(Generic[S]):
    """One request's waiting segments. ``due`` is what makes it urgent."""

    since: float
    due: float
    urgent: bool
    waiting: deque[S]
    begun: bool = False


class Batcher(Generic[S]):
    """The pool. ``put`` from any thread, ``take`` from one thread a lane.

    A request is due when it came plus the time that it takes to play: a greeting behind a book is
    spoken at once, two of a length are spoken in the order in which they came, and whatever has
    waited for long enough comes before all that is new, so nothing starves. Urgent requests come
    before all others; but after a few batches without any of the others, one of them goes first.
    """

    def __init__(
        self,
        limits: BatchLimits,
        clock: Callable[[], float] = time.monotonic,
        full: Callable[[], bool] = lambda: False,
        coming: Callable[[], bool] = lambda: False,
    ) -> None:
        """While ``full`` says so, only requests that were begun go on: they must end to make room.
        ``coming``: whether more are about to be put. Call ``wake`` when either may have changed."""
        self._coming = coming
        self._full = full
        self._limits = limits
        self._max_padded_s = limits.max_padded_s
        self._clock = clock
        self._groups: list[_Group[S]] = []  # by due
        self._last_due: dict[Hashable, float] = {}  # as many as there are partitions
        self._passed_over = 0
        self._busy: set[int] = set()  # lanes that are at a batch
        self._changed = threading.Condition()
        self._closed = False

    def put(self, segments: Sequence[S], lane: Hashable = None, *, urgent: bool = False) -> None:
        """Add one request's segments, in order.

        Requests of one ``lane`` are answered in their order, so a later one is never due before
        an earlier one: that would speak what nobody could hear yet.
        """
        now = self._clock()
        due = now + sum(segment.seconds for segment in segments)
        with self._changed:
            if lane is not None:
                due = self._last_due[lane] = max(due, self._last_due.get(lane, due))
            group = _Group(now, due, urgent, deque(segments))
            insort(self._groups, group, key=attrgetter("due"))
            self._changed.notify_all()

    def __len__(self) -> int:
        """How many segments wait."""
        with self._changed:
            return sum(len(group.waiting) for group in self._groups)

    def forget(self, lane: Hashable) -> None:
        """No more of this lane will be put."""
        with self._changed:
            self._last_due.pop(lane, None)

    def take(self) -> list[S]:
        """The next batch, and with it whatever is ``late``; blocks until there is something.

        A batch that is not full waits for more while another lane is at work, or more are coming,
        and not at all if the device is idle and nothing comes. Empty once the pool is closed.
        """
        lane = threading.get_ident()
        with self._changed:
            self._busy.discard(lane)
            while True:
                if self._closed:
                    return []
                late = self._sort_out()
                groups = self._candidates()
                counts = choose([self._lengths(group, most) for group, most in groups], self._bound)
                wait = 0.0 if late else self._wait(groups, sum(counts))
                if wait == 0:
                    self._busy.add(lane)
                    return late + self._remove(groups, counts)
                self._changed.wait(wait)

    def out_of_memory(self, padded_s: float) -> None:
        """The device could not take ``padded_s`` seconds: batches are at most half of that."""
        with self._changed:
            self._max_padded_s = min(self._max_padded_s, padded_s / 2)

    def wake(self) -> None:
        """Look again at what ``full`` and ``coming`` say."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Let every ``take`` return empty-handed; what waits is forgotten."""
        with self._changed:
            self._closed = True
            self._groups.clear()
            self._changed.notify_all()

    @property
    def _bound(self) -> BatchLimits:
        return replace(self._limits, max_padded_s=self._max_padded_s)

    def _candidates(self) -> list[tuple[_Group[S], int]]:
        """Groups in the order in which they are served, with the most to take of each."""
        most = self._limits.max_batch
        if self._full():
            return [(group, most) for group in self._groups if group.begun]
        near = self._groups if any(g.urgent for g in self._groups) else self._groups[:_LOOK_AHEAD]
        urgent = [(group, most) for group in near if group.urgent]
        others = [(group, most) for group in near if not group.urgent][:_LOOK_AHEAD]
        if urgent and others and self._passed_over >= _PASSED_OVER:
            # One segment leads the batch, so that most of it is left to the urgent ones.
            return [(others[0][0], 1), *urgent, *others[1:]]
        return urgent + others

    @staticmethod
    def _lengths(group: _Group[S], most: int) -> list[float]:
        return [segment.seconds for segment in islice(group.waiting, most)]

    def _wait(self, groups: Sequence[tuple[_Group[S], int]], count: int) -> float | None:
        """Seconds until the batch may go: 0 now, None when something must come first."""
        if not groups:
            return None
        idle = not self._busy and not self._coming()
        if idle or count >= self._limits.max_batch:
            return 0
        oldest = min(group.since for group, _ in groups)
        return max(0.0, oldest + self._limits.max_wait_s - self._clock())

    def _remove(self, groups: Sequence[tuple[_Group[S], int]], counts: Sequence[int]) -> list[S]:
        batch: list[S] = []
        ordinary = 0
        for (group, _), count in zip(groups, counts, strict=True):
            batch += [group.waiting.popleft() for _ in range(count)]
            group.begun = group.begun or count > 0
            ordinary += 0 if group.urgent else count
        if batch:
            waits = any(not group.urgent for group in self._groups)
            self._passed_over = self._passed_over + 1 if waits and not ordinary else 0
            if self._max_padded_s < self._limits.max_padded_s:
                self._max_padded_s *= _GROWTH
        self._groups = [group for group in self._groups if group.waiting]
        return batch

    def _sort_out(self) -> list[S]:
        """Forget what nobody wants; the segments of requests that are past their deadline."""
        # A request is dropped, or late, as a whole, so its first segment speaks for all.
        late: list[S] = []
        gone = False
        for group in self._groups:
            if group.waiting[0].dropped:
                gone = True
                group.waiting.clear()
            elif group.waiting[0].late:
                gone = True
                late += group.waiting
                group.waiting.clear()
        if gone:
            self._groups = [group for group in self._groups if group.waiting]
        return late
