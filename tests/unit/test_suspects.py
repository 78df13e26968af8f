"""Who is tried how carefully after a death, and against whom a death is held."""

import pytest

from processor.ledger import Partition
from processor.suspects import ANY, Mark, Suspects

pytestmark = pytest.mark.unit

HERE: Partition = ("requests", 0)
WINDOW = 256


def owner(first: int, found: Mark | None) -> Suspects:
    suspects = Suspects(WINDOW)
    suspects.open(HERE, first, found)
    return suspects


def after_death(suspects: Suspects, position: int) -> Mark | None:
    """The mark that a successor finds if the last commit was at ``position``."""
    return Mark.read(str(suspects.at_work(HERE, position)))


@pytest.mark.parametrize("mark", [Mark(), Mark(left=True, deaths=2, until=17, alone=1)])
def test_a_mark_is_read_as_it_was_written(mark: Mark) -> None:
    assert Mark.read(str(mark)) == mark


@pytest.mark.parametrize(
    "text",
    ["", "something", "speechmill-9 left 0 0 0", "speechmill-1 left 0 0 x", "{}"],
)
def test_what_others_left_there_is_no_mark(text: str) -> None:
    assert Mark.read(text) is None


@pytest.mark.parametrize("found", [None, Mark(left=True)])
def test_after_nobody_or_a_clean_end_nothing_is_suspected(found: Mark | None) -> None:
    suspects = owner(5, found)

    assert suspects.width(HERE, 5) == ANY
    assert suspects.deaths(HERE, 5) == 0


def test_after_one_death_few_are_tried_at_once_and_what_had_not_begun_is_free() -> None:
    first = owner(0, None)
    for offset in range(100):
        first.begin(HERE, offset)
    second = owner(10, after_death(first, 10))

    assert second.width(HERE, 10) == 16
    assert second.width(HERE, 99) == 1  # a last one is cheap to try alone
    assert second.width(HERE, 100) == ANY


def test_after_two_deaths_each_is_tried_alone() -> None:
    first = owner(0, None)
    for offset in range(100):
        first.begin(HERE, offset)
    second = owner(10, after_death(first, 10))
    for offset in range(10, 26):
        second.begin(HERE, offset)
    third = owner(12, after_death(second, 12))

    assert third.deaths(HERE, 12) == 2
    assert [third.width(HERE, offset) for offset in (12, 25)] == [1, 1]
    assert third.width(HERE, 26) == ANY


def test_a_lone_record_is_tried_alone_at_once_and_each_death_is_held_against_it() -> None:
    first = owner(7, None)
    first.begin(HERE, 7)
    mark = after_death(first, 7)
    for deaths_alone in range(3):
        next_owner = owner(7, mark)
        assert next_owner.width(HERE, 7) == 1
        assert next_owner.deaths_alone(HERE, 7) == deaths_alone
        mark = next_owner.on_trial(HERE, 7)

    assert owner(7, mark).deaths_alone(HERE, 7) == 3
    assert owner(7, mark).deaths_alone(HERE, 8) == 0


def test_once_the_suspects_are_through_nobody_remembers() -> None:
    first = owner(7, None)
    first.begin(HERE, 7)
    second = owner(7, after_death(first, 7))
    second.begin(HERE, 7)
    second.begin(HERE, 8)

    assert second.at_work(HERE, 8) == Mark(until=9)


def test_who_leaves_alive_passes_the_suspicion_on_and_adds_no_death() -> None:
    first = owner(7, None)
    first.begin(HERE, 7)
    second = owner(7, after_death(first, 7))
    third = owner(7, second.on_trial(HERE, 7))  # the second died, with 7 alone
    fourth = owner(7, third.left(HERE, 7))

    assert (fourth.deaths(HERE, 7), fourth.deaths_alone(HERE, 7)) == (2, 1)
    assert fourth.left(HERE, 8) == Mark(left=True)


def test_an_owner_that_dies_idle_costs_its_heir_one_careful_try() -> None:
    first = owner(7, None)
    first.begin(HERE, 7)
    second = owner(8, after_death(first, 8))

    assert second.width(HERE, 8) == 1
    assert second.width(HERE, 9) == ANY
