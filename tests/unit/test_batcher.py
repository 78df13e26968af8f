"""Which segments go together, whose turn it is, and how long a batch waits for more."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.batcher import Batcher, BatchLimits, choose

pytestmark = pytest.mark.unit

#: Seconds until a test gives up on what should happen at once.
_PATIENCE_S = 20.0


@dataclass(eq=False)
class Piece:
    """A segment, as far as the pool knows."""

    name: str
    seconds: float = 10.0
    wanted: list[bool] = field(default_factory=lambda: [True])
    late: bool = False

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


def pieces(text: str, seconds: float = 0.6) -> list[Piece]:
    """One request's segments, all wanted or all not."""
    wanted = [True]
    return [Piece(name, seconds, wanted) for name in text.split()]


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
    max_padding=st.floats(1.0, 4.0),
    max_padded_s=st.one_of(st.just(math.inf), st.floats(1.0, 1000.0)),
)


@given(_groups, _limits)
def test_a_choice_takes_from_the_fronts_within_the_limits(
    groups: list[list[float]], limits: BatchLimits
) -> None:
    counts = choose(groups, limits)

    chosen = [s for group, n in zip(groups, counts, strict=True) for s in group[:n]]
    assert all(0 <= n <= len(group) for group, n in zip(groups, counts, strict=True))
    assert len(chosen) == sum(counts) <= limits.max_batch
    if len(chosen) > 1:  # one alone is always tried: what can't be taken alone can't be at all
        padded = max(chosen) * len(chosen)
        assert padded <= limits.max_padded_s
        assert padded <= sum(chosen) * max(limits.max_padding, limits.spread) * (1 + 1e-9)


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
        chosen = [s for group, n in zip(groups, counts, strict=True) for s in group[:n]]
        last = [g[n] for g, n in list(zip(groups, counts, strict=True))[-1:] if n < len(g)]
        for seconds in last:  # all the others were asked when the batch was smaller
            padded = max([seconds, *chosen]) * (len(chosen) + 1)
            bound = limits.max_padding * (sum(chosen) + seconds)
            assert padded > min(bound, limits.max_padded_s) * (1 - 1e-9)


@given(st.lists(st.floats(1.0, 1.9), min_size=1, max_size=30), st.integers(1, 16))
def test_of_what_is_about_as_long_the_most_urgent_fill_the_batch(
    lengths: list[float], max_batch: int
) -> None:
    counts = choose([[seconds] for seconds in lengths], at_once(max_batch))

    full = min(max_batch, len(lengths))
    assert counts == [1] * full + [0] * (len(lengths) - full)


def test_of_no_groups_nothing_is_chosen() -> None:
    assert choose([], at_once(4)) == []


def test_the_more_urgent_request_is_served_before_the_next() -> None:
    assert choose([[1.0] * 9, [1.0] * 9, [1.0]], at_once(5)) == [5, 0, 0]
    assert choose([[1.0] * 2, [1.0] * 9, [1.0]], at_once(5)) == [2, 3, 0]
    assert choose([[1.0] * 2, [1.0] * 2, [1.0]], at_once(9)) == [2, 2, 1]


def test_long_and_short_do_not_share_a_batch_where_many_wait() -> None:
    assert choose([[10], [100], [10], [90], [11], [12]], at_once(4)) == [1, 0, 1, 0, 1, 1]


def test_where_few_wait_the_batch_is_filled_with_what_costs_little_padding() -> None:
    assert choose([[1], [4], [4], [4]], at_once(8)) == [1, 1, 1, 1]
    # With one short one the long one would be half of nothing but padding.
    assert choose([[10], [1], [1], [1]], at_once(8)) == [1, 0, 0, 0]


def test_where_padding_costs_nothing_lengths_are_mixed_freely() -> None:
    limits = BatchLimits(max_batch=4, max_wait_s=0, mixed=True, max_padded_s=300)

    assert choose([[10], [100], [1], [1]], limits) == [1, 1, 1, 0]


def test_a_batch_keeps_within_the_devices_memory() -> None:
    limits = BatchLimits(max_batch=8, max_wait_s=0, max_padded_s=20)

    assert choose([[6.0, 5.0, 4.0, 4.0]], limits) == [3]
    assert choose([[30.0, 30.0]], limits) == [1]  # alone or not at all


# -- the pool ---------------------------------------------------------------------------------


@given(st.lists(st.lists(st.floats(0.5, 500), min_size=1, max_size=6), max_size=6), _limits)
def test_every_segment_comes_out_once_and_those_of_a_request_in_order(
    requests: list[list[float]], limits: BatchLimits
) -> None:
    pool: Batcher[Piece] = Batcher(limits)
    put = [
        [Piece(f"{number}", seconds) for seconds in lengths]
        for number, lengths in enumerate(requests)
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
    pool.put(pieces("b1 b2 b3 b4", seconds=24))
    pool.put(pieces("hello", seconds=0.3))

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
    pool.put([Piece("book", seconds=60)])

    taken = []
    for _ in range(200):
        pool.put([Piece("hello", seconds=0.3)])
        pool.put([Piece("hello", seconds=0.3)])
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
    unwanted = pieces("u1 u2 u3", seconds=0.06)
    pool.put(unwanted)
    pool.put(pieces("w1 w2", seconds=5.94))
    assert names(pool.take()) == "u1"

    unwanted[0].wanted[0] = False

    assert [names(pool.take()), names(pool.take())] == ["w1", "w2"]


def test_a_batch_that_is_full_goes_at_once() -> None:
    """The clock stands still, so that whoever waited would wait for ever."""
    pool: Batcher[Piece] = Batcher(BatchLimits(max_batch=3, max_wait_s=1), Clock())
    pool.put(pieces("a b c d"))

    assert names(aside(pool.take).result(_PATIENCE_S)) == "a b c"


def with_a_lane_at_work(limits: BatchLimits, clock: Clock) -> Batcher[Piece]:
    """A pool that another lane took a batch of, and has not come back to."""
    pool: Batcher[Piece] = Batcher(limits, clock)
    pool.put(pieces("elsewhere"))
    taken: Future[list[Piece]] = Future()

    def other_lane() -> None:
        taken.set_result(pool.take())
        threading.Event().wait()  # it goes on living: a dead thread's number is given away again

    threading.Thread(target=other_lane, daemon=True).start()
    assert names(taken.result(_PATIENCE_S)) == "elsewhere"
    return pool


def test_an_idle_device_waits_for_nobody() -> None:
    """The clock stands still, so that whoever waited would wait for ever."""
    pool: Batcher[Piece] = Batcher(BatchLimits(max_batch=3, max_wait_s=1), Clock())
    pool.put(pieces("a"))

    assert names(aside(pool.take).result(_PATIENCE_S)) == "a"


def test_an_idle_device_waits_a_little_for_what_is_coming() -> None:
    coming = [True]
    limits = BatchLimits(max_batch=3, max_wait_s=3600)
    pool: Batcher[Piece] = Batcher(limits, Clock(), coming=lambda: coming[0])
    batch = aside(pool.take)
    pool.put(pieces("a"))
    pool.put(pieces("b"))
    assert not batch.done()

    coming[0] = False
    pool.wake()

    assert names(batch.result(_PATIENCE_S)) == "a b"


def test_a_batch_becomes_full_while_it_waits() -> None:
    pool = with_a_lane_at_work(BatchLimits(max_batch=2, max_wait_s=3600), Clock())
    batch = aside(pool.take)
    pool.put(pieces("a"))
    pool.put(pieces("b"))

    assert names(batch.result(_PATIENCE_S)) == "a b"


def test_a_batch_that_is_not_full_waits_for_the_age_of_its_oldest_segment() -> None:
    clock = Clock()
    pool = with_a_lane_at_work(BatchLimits(max_batch=3, max_wait_s=0.01), clock)
    pool.put(pieces("old"))
    clock.now += 0.006
    pool.put(pieces("young"))
    while clock.read.acquire(blocking=False):
        pass

    batch = aside(pool.take)
    # By the second look a hundredth of a second has gone by, but not on this clock.
    for _ in range(2):
        clock.wait_until_read()
    assert not batch.done()
    clock.now += 0.005  # the old one's time is up, the young one's is not

    assert names(batch.result(_PATIENCE_S)) == "old young"


def test_what_has_waited_once_does_not_wait_again() -> None:
    clock = Clock()
    pool = with_a_lane_at_work(BatchLimits(max_batch=3, max_wait_s=5), clock)
    pool.put(pieces("a b c d"))
    clock.now += 5

    assert names(aside(pool.take).result(_PATIENCE_S)) == "a b c"
    assert names(aside(pool.take).result(_PATIENCE_S)) == "d"


# -- urgent, late, out of memory ----------------------------------------------------------------


def test_what_is_urgent_comes_first_and_the_batch_is_filled_with_the_rest() -> None:
    pool: Batcher[Piece] = Batcher(at_once(4))
    pool.put(pieces("b1 b2 b3 b4 b5 b6"))
    pool.put(pieces("u1 u2"), urgent=True)

    assert names(pool.take()) == "u1 u2 b1 b2"
    assert names(pool.take()) == "b3 b4 b5 b6"


@pytest.mark.parametrize("max_batch", [1, 4])
def test_urgent_requests_without_end_do_not_starve_the_others(max_batch: int) -> None:
    pool: Batcher[Piece] = Batcher(at_once(max_batch))
    pool.put(pieces("b1 b2"))
    batches = []
    for _ in range(12):
        for _ in range(max_batch):
            pool.put(pieces("u"), urgent=True)
        batches.append(names(pool.take()))

    led = [number for number, batch in enumerate(batches) if batch.startswith("b")]
    assert led == [4, 9]
    assert batches[4] == " ".join(["b1"] + ["u"] * (max_batch - 1))


def test_one_urgent_request_among_many_others_waits_for_no_more_than_the_batch_at_work() -> None:
    pool: Batcher[Piece] = Batcher(at_once(2))
    for number in range(600):  # more than one choice looks at
        pool.put(pieces(f"b{number}"))
    pool.put(pieces("u"), urgent=True)

    assert names(pool.take()).startswith("u ")


def test_what_is_late_comes_out_at_once_and_takes_nobodys_place() -> None:
    pool: Batcher[Piece] = Batcher(at_once(2))
    late = pieces("l1 l2 l3")
    pool.put(late)
    pool.put(pieces("a b c"))
    for piece in late:
        piece.late = True

    assert names(pool.take()) == "l1 l2 l3 a b"
    assert names(pool.take()) == "c"


def test_after_the_device_was_out_of_memory_batches_are_smaller_and_grow_again() -> None:
    pool: Batcher[Piece] = Batcher(at_once(8))
    for _ in range(400):
        pool.put([Piece("p", 2.0)])
    assert len(pool.take()) == 8

    pool.out_of_memory(16.0)

    sizes = [len(pool.take()) for _ in range(60)]
    assert sizes[0] == 4
    assert sizes == sorted(sizes)
    assert sizes[-1] > 4


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
