"""The window is full at its limit, and open again only well below it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from processor.window import Load, Window

pytestmark = pytest.mark.unit

LIMIT = Load(requests=10, characters=1000, audio_bytes=100_000)


def test_an_empty_window_is_open() -> None:
    window = Window(LIMIT)

    assert window.load(0) == Load(0, 0, 0)
    assert not window.full(0)


@pytest.mark.parametrize(
    ("load", "full"),
    [
        (Load(9, 999, 99_999), False),
        (Load(10, 0, 0), True),
        (Load(0, 1000, 0), True),
        (Load(0, 0, 100_000), True),
        (Load(0, 5000, 0), True),
    ],
)
def test_any_one_count_at_its_limit_makes_it_full(load: Load, full: bool) -> None:
    window = Window(LIMIT)
    window.add(characters=load.characters, audio_bytes=load.audio_bytes)

    assert window.load(load.requests) == load
    assert window.full(load.requests) is full


def test_it_stays_full_until_every_count_is_at_most_half() -> None:
    window = Window(LIMIT)
    window.add(characters=1000, audio_bytes=60_000)

    assert window.full(10)
    assert window.full(6)
    window.add(characters=-1000)
    assert window.full(5)  # the audio is still more than half
    window.add(audio_bytes=-10_000)
    assert window.full(6)
    assert not window.full(5)


def test_once_open_it_fills_up_to_the_limit_again() -> None:
    window = Window(LIMIT)
    assert window.full(10)
    assert not window.full(5)

    assert not window.full(9)
    assert window.full(10)


def test_work_counted_by_many_threads_adds_up() -> None:
    window = Window(Load(1, 1, 1))

    def count(_: int) -> None:
        for _ in range(1000):
            window.add(characters=3, audio_bytes=5)
            window.add(characters=-1)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(8)))

    assert window.load(0) == Load(0, 16_000, 40_000)


def test_what_is_urgent_has_a_quarter_more_room() -> None:
    window = Window(LIMIT)

    assert window.full(12)
    assert not window.brimful(12)
    assert window.brimful(13)
    window.add(audio_bytes=125_000)
    assert window.brimful(0)
