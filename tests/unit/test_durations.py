"""Predictions of length, learned while running."""

import pytest

from processor.durations import Durations, weigh

pytestmark = pytest.mark.unit


def test_a_chinese_character_weighs_as_much_as_a_syllable() -> None:
    assert weigh("syllable") == 8
    assert weigh("音节") == 6
    assert weigh("") == 0


def test_before_anything_was_heard_it_guesses() -> None:
    assert 0.3 < Durations().predict("one two three", "a", 1.0) < 3.0
    assert Durations().predict("", "a", 1.0) > 0


def test_it_learns_each_voice_by_itself_at_any_speed() -> None:
    durations = Durations()
    for _ in range(20):
        durations.learn("x" * 100, "slow", 2.0, 10.0)  # 20 s at speed 1
        durations.learn("x" * 100, "fast", 1.0, 4.0)

    assert durations.predict("x" * 50, "slow", 1.0) == pytest.approx(10.0)
    assert durations.predict("x" * 50, "slow", 0.5) == pytest.approx(20.0)
    assert durations.predict("x" * 50, "fast", 1.0) == pytest.approx(2.0)


def test_what_was_long_ago_fades() -> None:
    durations = Durations()
    for seconds in [10.0] * 100 + [5.0] * 300:
        durations.learn("x" * 100, "voice", 1.0, seconds)

    assert durations.predict("x" * 100, "voice", 1.0) == pytest.approx(5.0, rel=0.02)


def test_silence_teaches_nothing() -> None:
    durations = Durations()
    before = durations.predict("hello", "voice", 1.0)
    durations.learn("hello", "voice", 1.0, 0.0)

    assert durations.predict("hello", "voice", 1.0) == before
