"""Which segments go together, whose turn it is, and how long a batch waits for more."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.batcher import Batcher, BatchLimits, choose, weigh

pytestmark = pytest.mark.unit

#: Seconds until a test gives up on what should happen at once.
_PATIENCE_S = 20.0


@dataclass(eq=False)
class Piece:
    """A segment, as far as the pool knows."""

    name: str
    weight: float = 10.0
    wanted: list[bool] = field(default_factory=lambda: [True])

    @property
    def dropped(self) -> bool:
        return not self.wanted[0]


class Clock:
    """A clock that stands still until it is moved, and says when it is looked at."""

    def __init__(self) -> None:
        self.now = 100.0
        self.read = threading.Semaphore(0)

    def __call__(self) -> float:
        self.read.release()
        return self.now

    def wait_until_read(self) -> None:
        assert self.read.acquire(timeout=_PATIENCE_S)


def pieces(text: str, weight: float = 10.0) -> list[Piece]:
    """One request's segments, all wanted or all not."""
    wanted = [True]
    return [Piece(name, weight, wanted) for name in text.split()]


def names(batch: list[Piece]) -> str:
    return " ".join(piece.name for piece in batch)


def one_by_one() -> BatchLimits:
    return BatchLimits(max_batch=1, max_wait_s=0)


def at_once(max_batch: int) -> BatchLimits:
    return BatchLimits(max_batch=max_batch, max_wait_s=0)


def aside(call: Callable[[], list[Piece]]) -> Future[list[Piece]]:
    """``call`` in a thread that does not outlive the tests."""
    result: Future[list[Piece]] = Future()
    threading.Thread(target=lambda: result.set_result(call()), daemon=True).start()
    return result


# -- choose -----------------------------------------------------------------------------------


_groups = st.lists(st.lists(st.floats(0.5, 500), min_size=1, max_size=8), max_size=8)
_limits = st.builds(
    BatchLimits,
    max_batch=st.integers(1, 12),
    max_wait_s=st.just(0.0),
    spread=st.floats(1.0, 4.0),
)


@given(_groups, _limits)
def test_a_choice_takes_from_the_fronts_within_the_limits(
    groups: list[list[float]], limits: BatchLimits
) -> None:
    counts = choose(groups, limits)

    chosen = [weight for group, n in zip(groups, counts, strict=True) for weight in group[:n]]
    assert all(0 <= n <= len(group) for group, n in zip(groups, counts, strict=True))
    assert len(chosen) == sum(counts) <= limits.max_batch
    if chosen:
        assert max(chosen) <= limits.spread * min(chosen)


@given(_groups.filter(bool), _limits)
def test_the_first_segment_of_the_first_group_is_always_taken(
    groups: list[list[float]], limits: BatchLimits
) -> None:
    assert choose(groups, limits)[0] >= 1


@given(_groups, _limits)
def test_a_choice_leaves_room_only_if_nothing_fits(
    groups: list[list[float]], limits: BatchLimits
) -> None:
    counts = choose(groups, limits)

    if sum(counts) < limits.max_batch:
        chosen = [weight for group, n in zip(groups, counts, strict=True) for weight in group[:n]]
        next_ones = [g[n] for g, n in zip(groups, counts, strict=True) if n < len(g)]
        for weight in next_ones:
            assert max([weight, *chosen]) > limits.spread * min([weight, *chosen])


def test_of_no_groups_nothing_is_chosen() -> None:
    assert choose([], at_once(4)) == []


def test_the_more_urgent_request_is_served_before_the_next() -> None:
    assert choose([[1.0] * 9, [1.0] * 9, [1.0]], at_once(5)) == [5, 0, 0]
    assert choose([[1.0] * 2, [1.0] * 9, [1.0]], at_once(5)) == [2, 3, 0]
    assert choose([[1.0] * 2, [1.0] * 2, [1.0]], at_once(9)) == [2, 2, 1]


def test_long_and_short_do_not_share_a_batch() -> None:
    assert choose([[10, 100, 10], [21, 10], [20]], at_once(8)) == [1, 0, 1]


def test_a_chinese_character_weighs_as_much_as_a_syllable() -> None:
    assert weigh("syllable") == 8
    assert weigh("音节") == 6
    assert weigh("") == 0


# -- the pool ---------------------------------------------------------------------------------


@given(st.lists(st.lists(st.floats(0.5, 500), min_size=1, max_size=6), max_size=6), _limits)
def test_every_segment_comes_out_once_and_those_of_a_request_in_order(
    requests: list[list[float]], limits: BatchLimits
) -> None:
    pool: Batcher[Piece] = Batcher(limits)
    put = [
        [Piece(f"{number}", weight) for weight in weights]
        for number, weights in enumerate(requests)
    ]
    for request in put:
        pool.put(request)

    taken: list[Piece] = []
    while len(taken) < sum(map(len, put)):
        taken += pool.take()

    for number, request in enumerate(put):
        assert [piece for piece in taken if piece.name == f"{number}"] == request
    assert len(taken) == sum(map(len, put))


def test_a_greeting_behind_a_book_gets_its_turn_at_once() -> None:
    pool: Batcher[Piece] = Batcher(one_by_one())
    pool.put(pieces("b1 b2 b3 b4 b5 b6"))
    assert names(pool.take()) == "b1"

    pool.put(pieces("hello"))

    assert [names(pool.take()) for _ in range(3)] == ["hello", "b2", "b3"]


def test_a_greeting_that_fits_no_batch_of_the_book_is_next_all_the_same() -> None:
    pool: Batcher[Piece] = Batcher(at_once(2))
    pool.put(pieces("b1 b2 b3 b4", weight=400))
    pool.put(pieces("hello", weight=5))

    assert [names(pool.take()) for _ in range(3)] == ["hello", "b1 b2", "b3 b4"]


def test_requests_of_a_length_are_spoken_in_the_order_in_which_they_came() -> None:
    clock = Clock()
    pool: Batcher[Piece] = Batcher(at_once(2), clock)
    for request in ("a1 a2", "b1 b2", "c1 c2"):
        pool.put(pieces(request))
        clock.now += 0.001

    assert [names(pool.take()) for _ in range(3)] == ["a1 a2", "b1 b2", "c1 c2"]


def test_a_book_does_not_starve_behind_greetings_without_end() -> None:
    """It is due after the minute that it takes to play: of the two greetings that come each second,
    while one is spoken, those of that minute come before it, and no others."""
    clock = Clock()
    pool: Batcher[Piece] = Batcher(one_by_one(), clock)
    pool.put([Piece("book", weight=1000)])

    taken = []
    for _ in range(200):
        pool.put([Piece("hello", weight=5)])
        pool.put([Piece("hello", weight=5)])
        taken.append(names(pool.take()))
        clock.now += 1

    assert 110 <= taken.index("book") <= 130


def test_a_greeting_that_fits_goes_in_the_books_batch() -> None:
    pool: Batcher[Piece] = Batcher(at_once(4))
    pool.put(pieces("b1 b2 b3 b4"))
    pool.put(pieces("hello"))

    assert sorted(names(pool.take()).split()) == ["b1", "b2", "b3", "hello"]


def test_take_blocks_until_something_is_put() -> None:
    pool: Batcher[Piece] = Batcher(at_once(4))
    batch = aside(pool.take)
    assert not batch.done()

    pool.put(pieces("one"))

    assert names(batch.result(_PATIENCE_S)) == "one"


def test_close_sends_everybody_home_empty_handed() -> None:
    pool: Batcher[Piece] = Batcher(BatchLimits(max_batch=4, max_wait_s=3600))
    waiting = [aside(pool.take) for _ in range(3)]
    pool.put(pieces("never-spoken"))

    pool.close()

    assert [batch.result(_PATIENCE_S) for batch in waiting] == [[], [], []]
    assert pool.take() == []


def test_what_is_put_after_close_is_not_spoken() -> None:
    pool: Batcher[Piece] = Batcher(at_once(4))
    pool.close()

    pool.put(pieces("late"))

    assert pool.take() == []


def test_what_nobody_wants_any_more_leaves_the_pool() -> None:
    pool: Batcher[Piece] = Batcher(one_by_one())
    unwanted = pieces("u1 u2 u3", weight=1)
    pool.put(unwanted)
    pool.put(pieces("w1 w2", weight=99))
    assert names(pool.take()) == "u1"

    unwanted[0].wanted[0] = False

    assert [names(pool.take()), names(pool.take())] == ["w1", "w2"]


def test_a_batch_that_is_full_goes_at_once() -> None:
    """The clock stands still, so that whoever waited would wait for ever."""
    pool: Batcher[Piece] = Batcher(BatchLimits(max_batch=3, max_wait_s=1), Clock())
    pool.put(pieces("a b c d"))

    assert names(aside(pool.take).result(_PATIENCE_S)) == "a b c"


def test_a_batch_becomes_full_while_it_waits() -> None:
    pool: Batcher[Piece] = Batcher(BatchLimits(max_batch=2, max_wait_s=3600))
    batch = aside(pool.take)
    pool.put(pieces("a"))
    pool.put(pieces("b"))

    assert names(batch.result(_PATIENCE_S)) == "a b"


def test_a_batch_that_is_not_full_waits_for_the_age_of_its_oldest_segment() -> None:
    clock = Clock()
    pool: Batcher[Piece] = Batcher(BatchLimits(max_batch=3, max_wait_s=0.01), clock)
    pool.put(pieces("old"))
    clock.wait_until_read()
    clock.now += 0.006
    pool.put(pieces("young"))
    clock.wait_until_read()

    batch = aside(pool.take)
    # By the second look a hundredth of a second has gone by, but not on this clock.
    for _ in range(2):
        clock.wait_until_read()
    assert not batch.done()
    clock.now += 0.005  # the old one's time is up, the young one's is not

    assert names(batch.result(_PATIENCE_S)) == "old young"


def test_what_has_waited_once_does_not_wait_again() -> None:
    clock = Clock()
    pool: Batcher[Piece] = Batcher(BatchLimits(max_batch=3, max_wait_s=5), clock)
    pool.put(pieces("a b c d"))
    clock.now += 5

    assert names(aside(pool.take).result(_PATIENCE_S)) == "a b c"
    assert names(aside(pool.take).result(_PATIENCE_S)) == "d"


def test_many_threads_at_once_lose_nothing_and_double_nothing() -> None:
    pool: Batcher[Piece] = Batcher(BatchLimits(max_batch=3, max_wait_s=0.001))
    requests = [[Piece(f"{n}", 10.0 * (1 + n % 5)) for _ in range(1 + n % 7)] for n in range(200)]
    total = sum(map(len, requests))
    taken: list[Piece] = []
    all_taken = threading.Event()
    lock = threading.Lock()

    def lane() -> None:
        while batch := pool.take():
            with lock:
                taken.extend(batch)
                if len(taken) >= total:
                    all_taken.set()

    def put(part: int) -> None:
        for request in requests[part::4]:
            pool.put(request)

    with ThreadPoolExecutor(12) as threads:
        lanes = [threads.submit(lane) for _ in range(8)]
        list(threads.map(put, range(4)))
        try:
            assert all_taken.wait(_PATIENCE_S)
        finally:
            pool.close()
        for done in lanes:
            done.result(_PATIENCE_S)

    assert len(taken) == total
    assert {id(piece) for piece in taken} == {id(p) for request in requests for p in request}
