"""One run from its beginning to its figures: parts up, warm-up, window, parts down.

Owns the order, and what counts. The window begins and ends with an answer, so that no time is in it
whose work is not; with a rate it begins on schedule.
"""

import shutil
import tempfile
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from processor.bench.answers import Answer, Answers
from processor.bench.corner import Corner, request_topics
from processor.bench.figures import Seen, figures
from processor.bench.fleet import Fleet
from processor.bench.machine import cpu_seconds, describe
from processor.bench.plan import Plan
from processor.bench.result import Result
from processor.bench.sender import Sender
from processor.bench.watcher import Watcher
from processor.errors import SpeechmillError
from processor.kafka import topic_partitions
from processor.local.stack import threads_each
from processor.settings import Settings

__all__ = ["BenchFailed", "State", "run"]

#: How long workers may take to load their model and to share the topics, in seconds.
_START_S = 300.0
#: How often a run looks whether its parts are well, in seconds.
_LOOK_S = 0.5


class BenchFailed(SpeechmillError):
    """A run has no figures; the message says why."""


@dataclass(frozen=True, slots=True)
class State:
    """Where a run is: told several times a second."""

    phase: str
    sent: int
    answered: int
    counted: int | None
    """None before the window has begun."""


def run(
    settings: Settings,
    plan: Plan,
    *,
    pids: Mapping[str, int] | None = None,
    tell: Callable[[State], None] = lambda _: None,
    closing: Callable[[], None] = lambda: None,
) -> Result:
    """Make one run; call it from the main thread, as it starts processes that end with it.

    With workers of its own it uses topics and a bucket of its own, which are gone afterwards;
    without, it sends to the settings' topics, and waits until all that it sent is answered.
    ``pids``: processes whose processor time is of interest too, by name (Linux). ``tell`` may
    raise, to break the run off. ``closing`` is called before the parts are taken down.

    Raises BenchFailed, PageMissing, FleetFailed, ChildFailed, SettingsError, BrokerUnavailable,
    StoreError, StoreUnavailable.
    """
    return _Run(settings, plan, pids or {}, tell, closing).result()


class _Run:
    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        pids: Mapping[str, int],
        tell: Callable[[State], None],
        closing: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._pids = pids
        self._tell = tell
        self._closing = closing
        self._name = f"bench-{uuid.uuid4().hex[:8]}"
        self._cleanup = ExitStack()
        self._fleet: Fleet | None = None
        self._phase = "starting"
        self._first_counted: int | None = None
        self._heard: tuple[int, float] = (0, 0.0)

    def result(self) -> Result:
        try:
            self._machine = describe()  # before our own load is on it
            if self._plan.workers:
                self._start_workers()
            self._check_topics()
            self._watcher = Watcher(self._pages(), self._plan.look_every_s)
            self._cleanup.callback(self._watcher.stop)
            self._answers = Answers(self._settings, self._name)
            self._cleanup.callback(self._answers.close)
            self._sender = Sender(
                self._settings, self._plan, self._name, self._answers, self._ahead()
            )
            self._cleanup.callback(self._stop_sender)
            return figures(self._measure())
        finally:
            self._closing()
            self._cleanup.close()

    # -- parts ----------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        count = self._plan.workers
        engine = self._settings.engine
        settings = self._settings.model_copy(
            update={
                "engine": engine.model_copy(
                    update={"threads": engine.threads or threads_each(count)}
                )
            }
        )
        folder = Path(tempfile.mkdtemp(prefix="speechmill-bench-"))
        self._cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        corner = Corner(settings, self._name, count)
        self._cleanup.callback(corner.remove)
        self._settings = corner.settings
        self._fleet = Fleet(self._settings, self._name, count, folder)
        self._cleanup.callback(self._fleet.kill)
        self._say("workers starting")
        partitions = self._settings.kafka.partitions * request_topics(self._settings)
        self._fleet.ready(partitions, _START_S)

    def _check_topics(self) -> None:
        kafka = self._settings.kafka
        if not topic_partitions(kafka, timeout_s=10.0).get(kafka.requests):
            raise BenchFailed(f"there is no topic {kafka.requests}, so no worker can be at it")

    def _pages(self) -> dict[str, str]:
        if self._fleet is not None:
            return self._fleet.pages
        return {f"worker {number}": url for number, url in enumerate(self._plan.pages, 1)}

    def _ahead(self) -> int:
        workers = self._plan.workers or len(self._plan.pages) or 1
        return self._plan.ahead or 2 * workers * self._settings.worker.window_requests

    def _stop_sender(self) -> None:
        with suppress(SpeechmillError):  # what the broker has not got yet, nobody waits for
            self._sender.stop()

    # -- the run --------------------------------------------------------------------------------

    def _measure(self) -> Seen:
        began = datetime.now(UTC)
        self._phase = "warming up"
        self._heard = (0, time.monotonic())
        self._sender.start()
        paced = self._plan.rate is not None
        start = self._scheduled_start() if paced else self._start()
        before, spent = self._watcher.look(), _spent(self._pids)
        asked_at = time.monotonic()
        self._phase = "measuring"
        counted = self._answers_of_schedule(start) if paced else self._next_answers(start)
        after, spent_after = self._watcher.look(), _spent(self._pids)
        took = time.monotonic() - asked_at
        end = max(answer.at for answer in counted)
        self._sender.stop()
        if self._fleet is None:
            self._phase = "waiting for what was sent"
            self._wait(lambda: self._answers.count >= len(self._sender.sent))
        self._watcher.stop()
        return Seen(
            run=self._name,
            began=began,
            parameters=_parameters(self._plan, self._settings, self._ahead()),
            machine=self._machine,
            paced=paced,
            start=start,
            end=end,
            due=self._sender.due,
            sent=self._sender.sent,
            urgent=self._sender.urgent,
            answers=self._answers.all,
            counted=counted,
            repeated=self._answers.repeated,
            before=before,
            after=after,
            pages=self._watcher.pages,
            cores={name: (spent_after[name] - since) / took for name, since in spent.items()},
        )

    def _start(self) -> float:
        """The first answer after the warm-up, and after the windows were turned over once: what is
        answered first is what is short."""
        self._wait(lambda: self._answers.count > 0)
        over = self._answers.all[0].at + self._plan.warm_up_s
        turned = max(1, self._ahead() // 2)
        self._wait(lambda: self._last().at >= over and self._answers.count >= turned)
        return self._last().at

    def _scheduled_start(self) -> float:
        start = self._sender.began + self._plan.warm_up_s
        self._wait_until(start)
        return start

    def _next_answers(self, start: float) -> list[Answer]:
        """As many as asked for, or those of as many seconds."""
        first = bisect_right(self._answers.all, start, key=attrgetter("at"))
        self._first_counted = first
        if self._plan.requests is not None:
            last = first + self._plan.requests
            self._wait(lambda: self._answers.count >= last)
            return self._answers.all[first:last]
        over = start + (self._plan.seconds or 0)
        self._wait_until(over)
        counted = [answer for answer in self._answers.since(first) if answer.at <= over]
        if not counted:
            raise BenchFailed(f"no answer came within {self._plan.seconds:g} s; give it longer")
        return counted

    def _answers_of_schedule(self, start: float) -> list[Answer]:
        self._first_counted = self._answers.count
        self._wait(lambda: self._sender.done)
        self._wait(lambda: self._answers.count >= len(self._sender.sent))
        due = self._sender.due
        counted = [answer for answer in self._answers.all if due[answer.number] >= start]
        if not counted:
            raise BenchFailed("no request was due after the warm-up; give it longer")
        return counted

    def _last(self) -> Answer:
        return self._answers.since(self._answers.count - 1)[-1]

    # -- waiting --------------------------------------------------------------------------------

    def _wait(self, until: Callable[[], bool]) -> None:
        while not self._answers.wait(lambda: until() or self._error() is not None, _LOOK_S):
            self._look()
        self._look()

    def _wait_until(self, moment: float) -> None:
        while (left := moment - time.monotonic()) > 0:
            self._answers.wait(lambda: self._error() is not None, min(left, _LOOK_S))
            self._look()

    def _error(self) -> Exception | None:
        return self._sender.error or self._answers.error or self._watcher.error

    def _look(self) -> None:
        """Raise if a part is not well, or nothing has come for long."""
        if error := self._error():
            raise error
        if self._fleet is not None:
            self._fleet.check()
        answered, now = self._answers.count, time.monotonic()
        if answered != self._heard[0] or answered >= len(self._sender.sent):
            self._heard = (answered, now)
        elif now - self._heard[1] > self._plan.silence_s:
            raise BenchFailed(
                f"{len(self._sender.sent) - answered} requests have no answer, and none came for "
                f"{self._plan.silence_s:g} s; does a worker run on {self._settings.kafka.requests}?"
            )
        self._say(self._phase)

    def _say(self, phase: str) -> None:
        if phase == "workers starting":
            self._tell(State(phase, 0, 0, None))
            return
        answered = self._answers.count
        first = self._first_counted
        counted = None if first is None else answered - first
        self._tell(State(phase, len(self._sender.sent), answered, counted))


def _spent(pids: Mapping[str, int]) -> dict[str, float]:
    """Processor time so far, of this process and those named."""
    found = {name: seconds for name, pid in pids.items() if (seconds := cpu_seconds(pid))}
    return {"bench": time.process_time()} | found


def _parameters(plan: Plan, settings: Settings, ahead: int) -> dict[str, Any]:
    planned = asdict(plan) | {
        "texts": len(plan.texts),
        "pages": list(plan.pages),
        "ahead": None if plan.rate else ahead,
    }
    groups = settings.model_dump(mode="json", exclude={"log", "registry", "health"})
    if settings.engine.name != "simulated":
        del groups["simulated"]
    return {"plan": planned, "settings": groups}
