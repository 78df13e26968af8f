"""The committed offset never passes an unfinished record, and outcomes keep their order."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processor.ledger import Ledger, Partition, Tenure

pytestmark = pytest.mark.unit

ONE: Partition = ("requests", 0)
TWO: Partition = ("requests", 1)


def opened(*partitions: Partition) -> Ledger[str]:
    ledger: Ledger[str] = Ledger()
    ledger.open(partitions)
    return ledger


def took(ledger: Ledger[str], partition: Partition, *offsets: int) -> Tenure:
    """Take all of ``offsets``: the tenure they are under."""
    (tenure,) = {ledger.take(partition, offset) for offset in offsets}
    assert tenure is not None
    return tenure


def test_nothing_is_ready_before_the_first_record_is_finished() -> None:
    ledger = opened(ONE)
    tenure = took(ledger, ONE, 5, 6, 7)

    ledger.finish(tenure, 7, "c")
    ledger.finish(tenure, 6, "b")

    assert ledger.ready() == []


def test_the_finished_prefix_is_ready_in_the_partitions_order() -> None:
    ledger = opened(ONE)
    tenure = took(ledger, ONE, 5, 6, 7, 8)
    for offset, outcome in ((6, "b"), (8, "d"), (5, "a")):
        ledger.finish(tenure, offset, outcome)

    assert ledger.ready() == [(ONE, 7, ["a", "b"])]


def test_offsets_may_have_gaps() -> None:
    """Compaction and transaction markers leave some out."""
    ledger = opened(ONE)
    tenure = took(ledger, ONE, 5, 90, 91)
    ledger.finish(tenure, 5, "a")
    ledger.finish(tenure, 90, "b")

    assert ledger.ready() == [(ONE, 91, ["a", "b"])]


def test_what_is_ready_stays_ready_until_it_is_settled() -> None:
    ledger = opened(ONE)
    tenure = took(ledger, ONE, 5, 6)
    ledger.finish(tenure, 5, "a")
    assert ledger.ready() == ledger.ready() == [(ONE, 6, ["a"])]

    ledger.settle(ONE, 6)

    assert ledger.ready() == []
    assert ledger.under_way() == 1


def test_what_finishes_between_ready_and_settle_is_kept() -> None:
    ledger = opened(ONE)
    tenure = took(ledger, ONE, 5, 6)
    ledger.finish(tenure, 5, "a")
    ((partition, position, _),) = ledger.ready()
    ledger.finish(tenure, 6, "b")

    ledger.settle(partition, position)

    assert ledger.ready() == [(ONE, 7, ["b"])]


def test_one_partition_does_not_hold_up_another() -> None:
    ledger = opened(ONE, TWO)
    took(ledger, ONE, 5)
    ledger.finish(took(ledger, TWO, 8), 8, "x")

    assert ledger.ready() == [(TWO, 9, ["x"])]


def test_a_record_that_is_entered_already_is_refused() -> None:
    ledger = opened(ONE)
    took(ledger, ONE, 5, 7)

    assert [ledger.take(ONE, offset) for offset in (7, 6, 5)] == [None, None, None]
    assert ledger.under_way() == 2


def test_a_record_of_a_partition_that_is_not_ours_is_refused() -> None:
    ledger = opened(ONE)

    assert ledger.take(TWO, 0) is None
    ledger.close([ONE])
    assert ledger.take(ONE, 0) is None


def test_a_tenure_is_over_when_its_partition_is_closed() -> None:
    ledger = opened(ONE, TWO)
    lost, kept = took(ledger, ONE, 5), took(ledger, TWO, 5)

    ledger.close([ONE])

    assert (lost.over, kept.over) == (True, False)
    assert ledger.partitions == [TWO]


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "not-closed"])
def test_an_outcome_of_an_earlier_tenure_is_dropped(closed: bool) -> None:
    """Also when the same record of the same partition has been taken anew since."""
    ledger = opened(ONE)
    old = took(ledger, ONE, 5)
    if closed:
        ledger.close([ONE])
    ledger.open([ONE])
    new = took(ledger, ONE, 5)

    assert ledger.finish(old, 5, "stale") is False
    assert ledger.ready() == []
    assert ledger.finish(new, 5, "fresh") is True
    assert ledger.ready() == [(ONE, 6, ["fresh"])]


def test_settling_a_partition_that_is_gone_is_nothing() -> None:
    ledger = opened(ONE)
    ledger.close([ONE])

    ledger.settle(ONE, 6)

    assert ledger.under_way() == 0


def test_records_under_way_are_counted_by_partition() -> None:
    ledger = opened(ONE, TWO)
    took(ledger, ONE, 1, 2, 3)
    took(ledger, TWO, 1)

    assert ledger.under_way() == 4
    assert ledger.under_way([ONE]) == 3
    assert ledger.under_way([TWO, ("requests", 9)]) == 1
    assert ledger.under_way([]) == 0


# -- any order of events ----------------------------------------------------------------------

Outcome = tuple[int, int]
"""The tenure's number and the record's offset."""


@dataclass
class Model:
    """What one partition should hold: a log that goes on, and a committed offset in it."""

    end: int = 0
    committed: int = 0
    tenure: int = 0
    open: bool = False
    taken: list[int] = field(default_factory=list)
    finished: set[int] = field(default_factory=set)

    def begin(self) -> None:
        self.tenure += 1
        self.open = True
        self.taken, self.finished = [], set()
        self.end = self.committed  # the client starts over from what is committed

    def unfinished(self) -> list[int]:
        return [offset for offset in self.taken if offset not in self.finished]


_partitions = st.sampled_from([ONE, TWO, ("priority", 0)])


class AnyOrder(RuleBasedStateMachine):
    """Takes, finishes, flushes and rebalances in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Ledger[Outcome] = Ledger()
        self.models: dict[Partition, Model] = {}
        self.work: list[tuple[Tenure, int, int]] = []  # tenure, its number, offset

    def model(self, partition: Partition) -> Model:
        return self.models.setdefault(partition, Model())

    @rule(partition=_partitions)
    def open(self, partition: Partition) -> None:
        self.ledger.open([partition])
        self.model(partition).begin()

    @rule(partition=_partitions)
    def close(self, partition: Partition) -> None:
        self.ledger.close([partition])
        self.model(partition).open = False

    @rule(partition=_partitions, gap=st.sampled_from([0, 0, 0, 1, 7]))
    def take(self, partition: Partition, gap: int) -> None:
        model = self.model(partition)
        offset = model.end + gap
        tenure = self.ledger.take(partition, offset)
        assert (tenure is not None) is model.open
        if tenure is not None:
            assert not tenure.over
            model.end = offset + 1
            model.taken.append(offset)
            self.work.append((tenure, model.tenure, offset))

    @precondition(lambda self: any(model.open and model.taken for model in self.models.values()))
    @rule(data=st.data())
    def take_again(self, data: st.DataObject) -> None:
        known = [(p, o) for p, model in self.models.items() if model.open for o in model.taken]
        partition, offset = data.draw(st.sampled_from(known))

        assert self.ledger.take(partition, offset) is None

    @precondition(lambda self: self.work)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.work) - 1))
        tenure, number, offset = self.work.pop(at)
        model = self.model(tenure.partition)
        stands = model.open and number == model.tenure

        assert tenure.over is not stands
        assert self.ledger.finish(tenure, offset, (number, offset)) is stands
        if stands:
            model.finished.add(offset)

    @rule()
    def flush(self) -> None:
        moves = self.ledger.ready()
        assert len({partition for partition, _, _ in moves}) == len(moves)
        for partition, position, outcomes in moves:
            model = self.model(partition)
            # F: a prefix of what was taken, in its order, each once, of this tenure alone.
            assert outcomes
            assert outcomes == [(model.tenure, o) for o in model.taken[: len(outcomes)]]
            # E: the offset passes what is published, and never an unfinished record.
            assert position == model.taken[len(outcomes) - 1] + 1
            assert all(position <= offset for offset in model.unfinished())
            assert position > model.committed
            self.ledger.settle(partition, position)
            model.committed = position
            model.finished.difference_update(model.taken[: len(outcomes)])
            del model.taken[: len(outcomes)]

    @invariant()
    def what_can_move_is_offered(self) -> None:
        movable = {p for p, m in self.models.items() if m.open and set(m.taken[:1]) & m.finished}
        assert {partition for partition, _, _ in self.ledger.ready()} == movable

    @invariant()
    def counts_agree(self) -> None:
        assert set(self.ledger.partitions) == set(self.open_ones())
        assert self.ledger.under_way() == sum(len(self.models[p].taken) for p in self.open_ones())

    def open_ones(self) -> Iterator[Partition]:
        return (partition for partition, model in self.models.items() if model.open)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
