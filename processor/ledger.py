"""What of each partition is under way, finished and committed.

Owns offsets: which records were taken, in which order, and how far the commit may go. Used by the
poll thread alone, so it needs no lock; other threads see only a ``Tenure``, and of that only
whether it still stands. Knows nothing of what an outcome is.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Ledger", "Partition", "Position", "Tenure"]

Partition = tuple[str, int]
"""Topic and partition number."""

T = TypeVar("T")


class Position(NamedTuple):
    """Where a commit stands: the next record's offset, and a note beside it (its metadata)."""

    offset: int
    note: str = ""


class Tenure:
    """One assignment of one partition to this worker, from its assignment to its loss.

    Work carries the tenure it began under; what comes back after the tenure ended is dropped, also
    when the same partition has been assigned anew since.
    """

    __slots__ = ("_over", "partition")

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self._over = False

    @property
    def over(self) -> bool:
        """True once the partition is no longer ours. May be read from any thread."""
        return self._over

    def end(self) -> None:
        self._over = True


@dataclass(slots=True)
class _Entry(Generic[T]):
    offset: int
    outcome: T | None = None


@dataclass(slots=True)
class _Book(Generic[T]):
    """One partition's records in offset order: a finished prefix may leave."""

    tenure: Tenure
    last: int = -1
    entries: deque[_Entry[T]] = field(default_factory=deque)
    by_offset: dict[int, _Entry[T]] = field(default_factory=dict)


class Ledger(Generic[T]):
    """The books of all partitions that are ours. ``T`` is what a finished record came to."""

    def __init__(self) -> None:
        self._books: dict[Partition, _Book[T]] = {}

    @property
    def partitions(self) -> list[Partition]:
        return list(self._books)

    def open(self, partitions: Iterable[Partition]) -> None:
        """Begin a tenure of each."""
        for partition in partitions:
            self.close([partition])
            self._books[partition] = _Book(Tenure(partition))

    def close(self, partitions: Iterable[Partition]) -> None:
        """End the tenures: what is under way there will be dropped."""
        for partition in partitions:
            if book := self._books.pop(partition, None):
                book.tenure.end()

    def take(self, partition: Partition, offset: int) -> Tenure | None:
        """Enter a record. None if the partition is not ours, or the record was taken before."""
        book = self._books.get(partition)
        if book is None or offset <= book.last:
            return None
        book.last = offset
        entry: _Entry[T] = _Entry(offset)
        book.entries.append(entry)
        book.by_offset[offset] = entry
        return book.tenure

    def goes_back(self, partition: Partition, offset: int) -> bool:
        """Whether ``offset`` does not come after the last one that was taken.

        Then the topic was made anew or cut, or the client went back: a new tenure must begin. To do
        a record once more is better than to lose one that has the number of another.
        """
        book = self._books.get(partition)
        return book is not None and offset <= book.last

    def finish(self, tenure: Tenure, offset: int, outcome: T) -> bool:
        """Note a record's outcome. False if the tenure is over and the outcome must be dropped."""
        if tenure.over:
            return False
        entry = self._books[tenure.partition].by_offset[offset]
        entry.outcome = outcome
        return True

    def ready(self) -> list[tuple[Partition, int, list[T]]]:
        """For each partition that can move: the offset to commit, and the outcomes up to there.

        The outcomes are a prefix of what was taken, in offset order; the offset is one past the
        last of them, so it never passes an unfinished record. Nothing changes until ``settle``.
        """
        moves = []
        for partition, book in self._books.items():
            outcomes = []
            position = -1
            for entry in book.entries:
                if entry.outcome is None:
                    break
                outcomes.append(entry.outcome)
                position = entry.offset + 1
            if outcomes:
                moves.append((partition, position, outcomes))
        return moves

    def settle(self, partition: Partition, position: int) -> None:
        """Forget what lies below ``position``: it is published and committed."""
        book = self._books.get(partition)
        while book and book.entries and book.entries[0].offset < position:
            del book.by_offset[book.entries.popleft().offset]

    def position(self, partition: Partition) -> int | None:
        """The lowest offset that is not settled; None if no record was taken yet."""
        book = self._books.get(partition)
        if book is None or book.last < 0:
            return None
        return book.entries[0].offset if book.entries else book.last + 1

    def depth(self, partition: Partition) -> int:
        """How many records of this one were taken and are not settled."""
        book = self._books.get(partition)
        return len(book.entries) if book else 0

    def under_way(self, partitions: Iterable[Partition] | None = None) -> int:
        """How many records were taken and are not settled."""
        wanted = self._books if partitions is None else set(partitions)
        # A copy: the health endpoint asks from its own thread.
        return sum(len(book.entries) for key, book in list(self._books.items()) if key in wanted)
