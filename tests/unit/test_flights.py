"""One works for a result; those that ask for it meanwhile wait, and are told."""

import pytest

from processor.flights import Flights

pytestmark = pytest.mark.unit


def test_the_first_works_and_the_others_are_told_what_came_of_it() -> None:
    flights: Flights[str] = Flights()
    told: list[str | None] = []

    assert flights.first("speech", "a", told.append)
    assert not flights.first("speech", "b", told.append)
    assert not flights.first("speech", "c", told.append)
    assert flights.first("another", "d", told.append)
    assert told == []
    flights.land(["a"], "spoken")

    assert told == ["spoken", "spoken"]


def test_if_nothing_came_of_it_the_next_one_may_work() -> None:
    flights: Flights[str] = Flights()
    told: list[str | None] = []
    flights.first("speech", "a", told.append)
    flights.first("speech", "b", told.append)
    flights.land(["a"], None)

    assert told == [None]
    assert flights.first("speech", "b", told.append)


def test_who_works_for_nothing_is_passed_over_and_landing_twice_is_harmless() -> None:
    flights: Flights[str] = Flights()
    told: list[str | None] = []
    flights.first("speech", "a", told.append)
    flights.first("speech", "b", told.append)
    flights.land(["nobody", "b"], "no")
    assert told == []
    flights.land(["a"], "spoken")
    flights.land(["a"], "again")

    assert told == ["spoken"]
