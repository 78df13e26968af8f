"""From the client to the stages: which of the records that were taken may begin now.

Owns the records that are held back, and the marks in the committed offsets that tell the next owner
whether we lived (see suspects). Used by the poll thread alone.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

import structlog

from processor.errors import BrokerUnavailable, Code, RequestError, Stage
from processor.job import Ticket
from processor.ledger import Partition, Position
from processor.publisher import Committer
from processor.stages import Stages
from processor.suspects import Mark, Suspects

__all__ = ["Intake"]

_log = structlog.get_logger()


class Intake:
    """One for a worker. All begins at once, unless the last owner of a partition died."""

    def __init__(self, stages: Stages, *, window: int, max_deaths: int) -> None:
        self._stages = stages
        self._max_deaths = max_deaths
        self._suspects = Suspects(window)
        self._held: deque[Ticket] = deque()

    def take(self, ticket: Ticket) -> None:
        """Hold a ticket, until ``begin`` lets it go."""
        self._held.append(ticket)

    def held(self, partitions: Collection[Partition] | None = None) -> int:
        """How many are held back."""
        return sum(
            partitions is None or ticket.tenure.partition in partitions for ticket in self._held
        )

    def begin(self, committer: Committer, at_work: Callable[[], int]) -> None:
        """Put to work what may be; ``at_work`` is how many records are begun and not settled.

        Without a broker's word nothing begins that needs a mark: it is tried again the next time.
        """
        try:
            self._open(committer)
            while self._held and at_work() < self._width(self._held[0]):
                self._put_to_work(self._held[0], committer)
                self._held.popleft()
        except BrokerUnavailable as error:
            _log.warning("not begun; trying again", reason=str(error))

    def note(self, partition: Partition, position: int) -> str:
        """What to write beside a commit at ``position``."""
        return str(self._suspects.at_work(partition, position))

    def farewells(
        self, positions: Iterable[tuple[Partition, int | None]]
    ) -> Iterator[tuple[Partition, Position]]:
        """The commits that tell the next owner that this one gave these up alive."""
        for partition, position in positions:
            if position is not None and self._suspects.knows(partition):
                yield partition, Position(position, str(self._suspects.left(partition, position)))

    def close(self, partitions: Iterable[Partition]) -> None:
        """These are no longer ours: forget what is held of them."""
        self._suspects.close(partitions)
        self._held = deque(ticket for ticket in self._held if not ticket.tenure.over)

    def _open(self, committer: Committer) -> None:
        """Read the last owners' marks and leave ours, before any record of a tenure begins."""
        first: dict[Partition, int] = {}
        for ticket in self._held:
            if not self._suspects.knows(ticket.tenure.partition):
                first.setdefault(ticket.tenure.partition, ticket.record.offset)
        if not first:
            return
        found = committer.committed(first)
        for partition, offset in first.items():
            mark = Mark.read(found[partition].note)
            self._suspects.open(partition, offset, mark)
            if deaths := self._suspects.deaths(partition, offset):
                _log.warning("the last owner died", partition=partition[1], offset=offset,
                             in_a_row=deaths)  # fmt: skip
        try:
            committer.commit(
                {
                    place: Position(offset, self.note(place, offset))
                    for place, offset in first.items()
                }
            )
        except BrokerUnavailable:
            self._suspects.close(first)
            raise

    def _width(self, ticket: Ticket) -> int:
        return self._suspects.width(ticket.tenure.partition, ticket.record.offset)

    def _put_to_work(self, ticket: Ticket, committer: Committer) -> None:
        partition, offset = ticket.tenure.partition, ticket.record.offset
        alone = self._suspects.deaths_alone(partition, offset)
        if self._width(ticket) == 1:
            mark = str(self._suspects.on_trial(partition, offset))
            committer.commit({partition: Position(offset, mark)})
        ticket.attempt = 1 + self._suspects.deaths(partition, offset)
        self._suspects.begin(partition, offset)
        if alone < self._max_deaths:
            self._stages.accept(ticket)
            return
        error = RequestError(
            Code.WORKER_DIED,
            f"{alone} workers died with this request alone under way; look into their ends, and "
            "send it again once the cause is mended",
            stage=Stage.SYNTHESIS,
        )
        # If it was decoding that killed them, the refusal must not decode: one more death tells.
        self._stages.refuse(ticket, error, read=alone == self._max_deaths)
