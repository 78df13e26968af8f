"""One request under way: what it holds is given back once, and it is settled once."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest

from processor.engines.base import Samples, Speech, Utterance, Voice
from processor.errors import Code, RequestError, Stage
from processor.events import Source, SpeechRequest
from processor.job import Job, Record, Segment, Ticket
from processor.ledger import Tenure
from processor.manifest import Identity
from processor.segments import TextSegment
from processor.window import Load, Window

pytestmark = pytest.mark.unit

NOTHING = Load(0, 0, 0)


def a_record(value: bytes | None = b"12345678") -> Record:
    return Record(
        "requests", 2, 7, b"key", value, (("Content-Type", b"x"), ("a", None), ("a", b"2")), None
    )


def a_window() -> Window:
    return Window(Load(100, 1000, 1000))


def a_ticket(window: Window, value: bytes | None = b"12345678") -> Ticket:
    return Ticket(a_record(value), Tenure(("requests", 2)), window)


def a_job(segments: int, window: Window | None = None) -> Job:
    job = Job(
        ticket=a_ticket(window or a_window()),
        request=SpeechRequest(request_id="r", text="x " * segments),
        text="x " * segments,
        identity=Identity("digest", Voice("v", "en", "1"), seed=0),
        plan=tuple(TextSegment("x", 2 * n, 2 * n + 1, last=False) for n in range(segments)),
        queued_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    job.segments = tuple(
        Segment(job, index, Utterance("x", "v", 1.0, index), seconds=1.0)
        for index in range(segments)
    )
    return job


def tone(length: int) -> Samples:
    return np.full(length, 0.5, np.float32)


def failure(message: str = "no") -> RequestError:
    return RequestError(Code.ENGINE_FAILED, message, stage=Stage.SYNTHESIS)


def deliver(job: Job, index: int, result: Speech | RequestError | int, now: float = 1.0) -> bool:
    """Deliver a result, or so many samples."""
    if isinstance(result, int):
        result = Speech(tone(result))
    return job.deliver(index, result, compute_s=0.25, now=now)


# -- the record -------------------------------------------------------------------------------


def test_a_record_knows_where_it_came_from() -> None:
    assert a_record().source == Source(topic="requests", partition=2, offset=7)


def test_a_header_is_found_whatever_the_case_of_its_name_and_the_first_one_counts() -> None:
    assert a_record().header("content-type") == b"x"
    assert a_record().header("a") is None
    assert a_record().header("absent") is None


# -- the ticket -------------------------------------------------------------------------------


def test_a_ticket_takes_its_records_bytes_of_the_window_until_its_release() -> None:
    window = a_window()
    ticket = a_ticket(window)
    assert window.load(0) == Load(0, 8, 0)

    ticket.release()

    assert window.load(0) == NOTHING


def test_a_record_without_a_value_takes_nothing() -> None:
    window = a_window()
    a_ticket(window, value=None)

    assert window.load(0) == NOTHING


def test_audio_that_is_held_is_given_back_with_the_ticket() -> None:
    window = a_window()
    ticket = a_ticket(window)
    ticket.hold(100)
    ticket.hold(50)
    assert window.load(0) == Load(0, 8, 150)

    ticket.release()

    assert window.load(0) == NOTHING


def test_a_second_release_gives_back_nothing_more() -> None:
    window = a_window()
    other, ticket = a_ticket(window), a_ticket(window)
    other.hold(10)
    ticket.release()

    ticket.release()

    assert window.load(0) == Load(0, 8, 10)


def test_what_is_held_after_the_release_counts_nothing() -> None:
    """A lane may still be at work on a request whose partition is lost."""
    window = a_window()
    ticket = a_ticket(window)
    ticket.release()

    ticket.hold(100)
    ticket.release()

    assert window.load(0) == NOTHING


def test_holds_and_releases_from_many_threads_leave_nothing_behind() -> None:
    window = a_window()
    tickets = [a_ticket(window) for _ in range(200)]
    together = threading.Barrier(8)

    def run(number: int) -> None:
        together.wait()
        for ticket in tickets:
            ticket.hold(number)
            ticket.release()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(run, range(8)))

    assert window.load(0) == NOTHING


# -- the job ----------------------------------------------------------------------------------


def test_a_job_is_settled_by_its_last_segment_whatever_their_order() -> None:
    job = a_job(3)

    assert [deliver(job, index, 4) for index in (2, 0, 1)] == [False, False, True]


def test_its_samples_are_in_the_order_of_the_text() -> None:
    job = a_job(3)
    for index in (2, 0, 1):
        deliver(job, index, 10 + index)

    assert [len(samples) for samples in job.samples] == [10, 11, 12]


def test_the_first_failure_settles_it_and_the_rest_is_not_kept() -> None:
    window = a_window()
    job = a_job(4, window)
    deliver(job, 0, 5)

    assert deliver(job, 1, failure("the first")) is True
    assert deliver(job, 2, 5) is False
    assert deliver(job, 3, failure("the second")) is False

    with pytest.raises(RequestError, match="the first"):
        _ = job.samples
    assert window.load(0).audio_bytes == 5 * 4


def test_a_failure_on_the_last_segment_settles_it_once() -> None:
    job = a_job(2)

    assert [deliver(job, 0, 5), deliver(job, 1, failure())] == [False, True]


@pytest.mark.parametrize("failing", [(), (3,), (3, 17, 31)])
def test_exactly_one_of_many_threads_settles_it(failing: tuple[int, ...]) -> None:
    together = threading.Barrier(32)
    job = a_job(32)

    def run(index: int) -> bool:
        together.wait()
        return deliver(job, index, failure() if index in failing else 2)

    with ThreadPoolExecutor(32) as threads:
        settled = list(threads.map(run, range(32)))

    assert sum(settled) == 1
    assert job.spoilt is bool(failing)


def test_all_its_audio_counts_in_the_window_until_the_ticket_is_released() -> None:
    window = a_window()
    job = a_job(2, window)
    deliver(job, 0, 10)
    deliver(job, 1, 20)
    assert window.load(0).audio_bytes == 30 * 4

    job.ticket.release()

    assert window.load(0) == NOTHING


def test_its_time_on_the_device_is_from_the_first_segments_start_to_the_last_ones_end() -> None:
    job = a_job(2)

    job.begin(now=100.0, batch_size=3)
    job.begin(now=101.0, batch_size=7)
    job.begin(now=102.0, batch_size=1)
    deliver(job, 1, 5, now=103.0)
    deliver(job, 0, 5, now=104.0)

    assert (job.started, job.ended, job.compute_s, job.batch_size) == (100.0, 104.0, 0.5, 7)


def test_a_job_that_no_lane_has_taken_has_not_started() -> None:
    assert a_job(1).started is None


def test_a_start_at_the_epoch_is_a_start() -> None:
    job = a_job(1)
    job.begin(now=0.0, batch_size=1)
    job.begin(now=5.0, batch_size=1)

    assert job.started == 0.0


def test_a_segment_is_dropped_once_a_mate_failed_or_the_partition_is_gone() -> None:
    failed, lost, sound = a_job(2), a_job(2), a_job(2)

    deliver(failed, 0, failure())
    lost.ticket.tenure.end()
    deliver(sound, 0, 5)

    assert [job.segments[1].dropped for job in (failed, lost, sound)] == [True, True, False]
    assert [job.unwanted for job in (failed, lost, sound)] == [False, True, False]


def test_a_job_that_is_let_go_frees_its_audio_at_once() -> None:
    """Without the interpreter's search for circles, which may be a long time off."""
    gc.disable()
    try:
        job = a_job(2)
        samples = [tone(5), tone(5)]
        alive = [weakref.ref(one) for one in samples]
        for index, one in enumerate(samples):
            deliver(job, index, Speech(one))
        assert len(job.samples) == 2
        del samples, one

        job.let_go()
        del job

        assert [ref() for ref in alive] == [None, None]
    finally:
        gc.enable()
