"""An outage is waited out for as long as somebody wants the result, and no longer."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from processor import patience
from processor.errors import (
    BrokerUnavailable,
    Code,
    ObjectMissing,
    RequestError,
    Stage,
    StoreError,
    StoreUnavailable,
    Unavailable,
)
from processor.patience import Abandoned, Patience

pytestmark = pytest.mark.unit

#: Seconds until a test gives up on what should happen at once.
_PATIENCE_S = 20.0


class Service:
    """A service that raises what it is given, in order, and then answers."""

    def __init__(self, *failures: Exception) -> None:
        self._failures: Iterator[Exception] = iter(failures)
        self.calls = 0

    def ask(self) -> str:
        self.calls += 1
        for failure in self._failures:
            raise failure
        return "answer"


class Dead:
    """A service that never answers; says when it was asked."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)

    def ask(self) -> str:
        self.asked.release()
        raise StoreUnavailable("down")


def wanted() -> bool:
    return False


@pytest.fixture(autouse=True)
def _brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MAX_PAUSE_S", 0.001)


def test_a_service_that_answers_is_asked_once() -> None:
    service = Service()

    assert Patience().through(service.ask, unwanted=wanted) == "answer"
    assert service.calls == 1


@pytest.mark.parametrize(
    "failure",
    [
        Unavailable("down"),
        StoreUnavailable("down"),
        BrokerUnavailable("down"),
        StoreError("no such bucket"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_an_outage_is_waited_out(failure: Exception) -> None:
    service = Service(*[failure] * 12)

    assert Patience().through(service.ask, unwanted=wanted) == "answer"
    assert service.calls == 13


@pytest.mark.parametrize(
    "failure",
    [RequestError(Code.INTERNAL, "no", stage=Stage.UPLOAD), ValueError("no"), Abandoned("no")],
    ids=lambda failure: type(failure).__name__,
)
def test_what_is_no_outage_passes_straight_through(failure: Exception) -> None:
    service = Service(failure)

    with pytest.raises(type(failure)) as caught:
        Patience().through(service.ask, unwanted=wanted)

    assert caught.value is failure
    assert service.calls == 1


def test_what_is_no_outage_passes_through_after_an_outage_too() -> None:
    service = Service(StoreUnavailable("down"), ValueError("no"))

    with pytest.raises(ValueError, match="no"):
        Patience().through(service.ask, unwanted=wanted)

    assert service.calls == 2


def test_an_answer_that_nobody_wants_any_more_is_not_waited_for() -> None:
    service = Service(*[StoreUnavailable("down")] * 100)

    with pytest.raises(Abandoned):
        Patience().through(service.ask, unwanted=lambda: service.calls >= 3)

    assert service.calls == 3


def test_an_answer_that_is_there_is_given_also_when_nobody_wants_it() -> None:
    assert Patience().through(Service().ask, unwanted=lambda: True) == "answer"


def test_a_missing_object_is_an_answer_if_the_call_takes_it_as_one() -> None:
    """The one who calls knows what a missing object means; to patience it is a refusal."""
    service = Service(ObjectMissing("none"))

    def look_up() -> str | None:
        try:
            return service.ask()
        except ObjectMissing:
            return None

    assert Patience().through(look_up, unwanted=wanted) is None
    assert service.calls == 1


def aside(waiting: Patience, service: Dead) -> Future[str]:
    """Ask through ``waiting`` in a thread that does not outlive the tests."""
    result: Future[str] = Future()

    def run() -> None:
        try:
            result.set_result(waiting.through(service.ask, unwanted=wanted))
        except BaseException as error:  # noqa: BLE001 - it is the result
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result


def test_the_end_ends_every_wait() -> None:
    waiting, services = Patience(), [Dead() for _ in range(3)]
    results = [aside(waiting, service) for service in services]
    for service in services:
        for _ in range(3):
            assert service.asked.acquire(timeout=_PATIENCE_S)
    assert not any(result.done() for result in results)

    waiting.end()

    for result in results:
        with pytest.raises(Abandoned):
            result.result(_PATIENCE_S)


def test_the_end_wakes_a_wait_at_once() -> None:
    pauses: list[float] = []
    paused = threading.Event()

    class Noting(Patience):
        """Pauses for an hour, as if the back-off had grown so far."""

        def _pause(self, seconds: float) -> None:
            pauses.append(seconds)
            paused.set()
            super()._pause(3600)

    waiting, service = Noting(), Dead()
    result = aside(waiting, service)
    assert paused.wait(_PATIENCE_S)

    waiting.end()

    with pytest.raises(Abandoned):
        result.result(_PATIENCE_S)
    assert len(pauses) == 1


def test_after_the_end_nothing_is_waited_for() -> None:
    waiting, service = Patience(), Service(*[StoreUnavailable("down")] * 9)
    waiting.end()

    with pytest.raises(Abandoned):
        waiting.through(service.ask, unwanted=wanted)

    assert service.calls == 1


def test_pauses_grow_but_not_beyond_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MAX_PAUSE_S", 5.0)
    pauses: list[float] = []

    class Hasty(Patience):
        """Notes how long it would have paused."""

        def _pause(self, seconds: float) -> None:
            pauses.append(seconds)

    Hasty().through(Service(*[StoreUnavailable("down")] * 200).ask, unwanted=wanted)

    assert len(pauses) == 200
    assert pauses[0] <= 0.1
    assert max(pauses) <= 5.0
    assert max(pauses[20:]) > 1.0
    assert len(set(pauses)) > 100  # jittered: workers do not come back all at once
