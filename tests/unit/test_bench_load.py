"""What a run sends, and when: schedules, lengths, texts and plans."""

import math
import random
import statistics
from itertools import islice, pairwise, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.bench.arrivals import poisson
from processor.bench.plan import Lengths, Plan
from processor.bench.sender import scheduled
from processor.bench.texts import draw_length, synthetic, texts
from processor.errors import SettingsError

pytestmark = pytest.mark.unit


@given(st.floats(0.01, 1000), st.integers(0, 2**32))
def test_a_schedule_only_goes_forward_and_is_its_seeds(rate: float, seed: int) -> None:
    first = list(islice(poisson(rate, seed), 50))

    assert first == list(islice(poisson(rate, seed), 50))
    assert all(0 < before <= after for before, after in pairwise([first[0], *first]))


def test_gaps_are_exponential() -> None:
    moments = list(islice(poisson(4.0, seed=1), 20_000))
    gaps = [after - before for before, after in pairwise(moments)]

    assert statistics.fmean(gaps) == pytest.approx(0.25, rel=0.03)
    # Of an exponential distribution, the deviation is the mean, and 1/e of all is longer than it.
    assert statistics.stdev(gaps) == pytest.approx(0.25, rel=0.04)
    assert sum(gap > 0.25 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), abs=0.02)


@given(st.integers(1, 40), st.floats(0, 5), st.floats(0.5, 50))
def test_as_many_are_scheduled_after_the_warm_up_as_count(
    requests: int, warm_up: float, rate: float
) -> None:
    plan = Plan(requests=requests, rate=rate, warm_up_s=warm_up)
    moments = list(scheduled(plan, rate))

    assert sum(moment >= warm_up for moment in moments) == requests
    assert moments[-1] >= warm_up


def test_a_schedule_in_seconds_ends_with_them() -> None:
    plan = Plan(seconds=10, rate=20, warm_up_s=2)
    moments = list(scheduled(plan, 20))

    assert moments == list(takewhile(lambda moment: moment < 12, poisson(20, plan.seed)))
    assert 150 < len(moments) < 330


@given(st.floats(10, 10_000), st.floats(1, 10), st.integers())
def test_lengths_have_bounds(median: float, spread: float, seed: int) -> None:
    drawn = draw_length(random.Random(seed), Lengths(median, spread))  # noqa: S311

    assert 10 <= drawn <= 20_000


def test_lengths_are_as_stated() -> None:
    dice, lengths = random.Random(5), Lengths(median=120, spread=1.5)  # noqa: S311
    drawn = [draw_length(dice, lengths) for _ in range(20_000)]

    assert statistics.median(drawn) == pytest.approx(120, rel=0.02)
    within = sum(80 <= length <= 180 for length in drawn) / len(drawn)
    assert within == pytest.approx(0.683, abs=0.02)  # one standard deviation to either side


def test_a_spread_of_one_is_one_length() -> None:
    dice = random.Random(0)  # noqa: S311

    assert {draw_length(dice, Lengths(80, 1)) for _ in range(100)} == {80}


def test_texts_are_sentences_of_the_stated_length() -> None:
    found = list(islice(synthetic(Lengths(100, 1.6), seed=3), 2000))

    assert found == list(islice(synthetic(Lengths(100, 1.6), seed=3), 2000))
    assert len(set(found)) == len(found)
    assert statistics.median(map(len, found)) == pytest.approx(100, rel=0.05)
    assert all(text[0].isupper() and text.endswith(".") for text in found)
    assert all(text.isascii() for text in found)


def test_a_files_paragraphs_come_in_turn() -> None:
    plan = Plan(requests=1, texts=("one", "two"))

    assert list(islice(texts(plan), 5)) == ["one", "two", "one", "two", "one"]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"requests": 1, "seconds": 1.0},
        {"requests": 0},
        {"seconds": 0.0},
        {"requests": 1, "rate": 0.0},
        {"requests": 1, "workers": -1},
        {"requests": 1, "urgent": 1.0},
        {"requests": 1, "workers": 1, "pages": ("http://127.0.0.1:1/metrics",)},
    ],
)
def test_a_plan_that_can_not_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        Plan(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("median", "spread"), [(1, 2), (1e6, 2), (100, 0.5), (100, 99)])
def test_lengths_that_can_not_be_are_refused(median: float, spread: float) -> None:
    with pytest.raises(SettingsError):
        Lengths(median, spread)
