"""Which records may have killed the last owner of their partition, and how carefully to try them.

Owns the mark that an owner leaves in the metadata of each offset that it commits, and what the next
owner concludes from it. Used by the poll thread alone; commits nothing itself.

A mark that says "at work" and is still there when the partition changes hands tells that its writer
died, and below which offset it had begun records. Any of them may be to blame, or none: the machine
may have failed. So the next owner has few of them under way at once; if it dies too, the one after
it tries them one by one, each with a mark of its own before it begins. Only a death with one record
alone under way is held against that record.
"""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace

from processor.ledger import Partition

__all__ = ["ANY", "Mark", "Suspects"]

#: The width where nothing is suspected: the window alone bounds what is under way.
ANY = sys.maxsize
_VERSION = "speechmill-1"


@dataclass(frozen=True, slots=True)
class Mark:
    """What an owner says about a partition, in the metadata of a committed offset.

    ``deaths``: owners in a row, before this one, that died with some of these records under way.
    ``until``: records below it have been begun, or, if the owner ``left``, are still suspect.
    ``alone``: deaths with the record at the committed offset alone under way; it is counted before
    the record begins, as afterwards nobody may be there to count.
    """

    left: bool = False
    deaths: int = 0
    until: int = 0
    alone: int = 0

    def __str__(self) -> str:
        state = "left" if self.left else "at-work"
        return f"{_VERSION} {state} {self.deaths} {self.until} {self.alone}"

    @classmethod
    def read(cls, text: str) -> "Mark | None":
        """None for what another program, or another version, has left there."""
        match text.split():
            case [version, state, *numbers] if version == _VERSION and len(numbers) == 3:
                if state in ("left", "at-work") and all(n.isdecimal() for n in numbers):
                    deaths, until, alone = map(int, numbers)
                    return cls(state == "left", deaths, until, alone)
        return None


@dataclass(slots=True)
class _Case:
    """One partition during our tenure."""

    first: int  # offset of the first record of the tenure: the one that ``alone`` is about
    deaths: int
    until: int
    alone: int
    begun: int  # one past the last record that was begun


class Suspects:
    """The partitions whose tenure has begun with a record."""

    def __init__(self, window: int) -> None:
        """``window``: how many records are under way, as a rule, where nothing is suspected."""
        self._few = max(1, math.isqrt(window))
        self._cases: dict[Partition, _Case] = {}

    def knows(self, partition: Partition) -> bool:
        return partition in self._cases

    def open(self, partition: Partition, first: int, found: Mark | None) -> None:
        """A tenure's first record is at ``first``, and the last owner left the mark ``found``."""
        mark = found or Mark(left=True)
        if mark.left:
            deaths, until = (mark.deaths, mark.until) if first < mark.until else (0, 0)
        else:
            deaths, until = mark.deaths + 1, max(mark.until, first + 1)
        self._cases[partition] = _Case(first, deaths, until, mark.alone, begun=first)

    def close(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._cases.pop(partition, None)

    def deaths(self, partition: Partition, offset: int) -> int:
        """Owners that may have died of this record."""
        case = self._cases[partition]
        return case.deaths if offset < case.until else 0

    def deaths_alone(self, partition: Partition, offset: int) -> int:
        """Owners that died with this record alone under way."""
        case = self._cases[partition]
        return case.alone if offset == case.first else 0

    def width(self, partition: Partition, offset: int) -> int:
        """How many records, of all partitions, may be under way together with this one."""
        if not self.deaths(partition, offset):
            return ANY
        case = self._cases[partition]
        if case.deaths == 1 and not case.alone and case.until - offset > self._few:
            return self._few
        return 1

    def begin(self, partition: Partition, offset: int) -> None:
        """The record goes to work."""
        case = self._cases[partition]
        case.begun = max(case.begun, offset + 1)

    def at_work(self, partition: Partition, position: int) -> Mark:
        """The mark of a commit at ``position``."""
        case = self._cases[partition]
        suspected = position < case.until
        return Mark(deaths=case.deaths if suspected else 0, until=case.begun)

    def on_trial(self, partition: Partition, offset: int) -> Mark:
        """The mark to commit before the record at ``offset`` begins, alone."""
        alone = self.deaths_alone(partition, offset) + 1
        return replace(self.at_work(partition, offset), until=offset + 1, alone=alone)

    def left(self, partition: Partition, position: int) -> Mark:
        """The mark with which a partition is given up at ``position``, by one who lives."""
        case = self._cases[partition]
        if position >= case.until:
            return Mark(left=True)
        alone = self.deaths_alone(partition, position)
        return Mark(left=True, deaths=case.deaths, until=case.until, alone=alone)
