"""Sends a run's requests, at their moments or as fast as they are answered.

Owns the thread that submits. A request that is due while the sender is held up is sent late, and
its latency counts from when it was due: who waits for an answer does not care what held it up.
"""

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

from processor.bench.answers import Answers, request_id
from processor.bench.arrivals import poisson
from processor.bench.plan import Plan
from processor.bench.texts import texts
from processor.errors import SpeechmillError
from processor.settings import Settings
from producers.client import SpeechProducer, make_request

__all__ = ["Sender"]

#: Before the first request of a schedule, in seconds: the threads are up by then.
_HEAD_START_S = 0.2


class Sender:
    """Submits from ``start`` on until ``stop``, or, with a rate, until the plan's last request.

    ``due[n]`` is when request n was to be sent (as fast as possible: when it was), ``sent[n]`` when
    it was handed to the client, on the monotonic clock; ``urgent`` has the numbers of those that
    went to the priority topic.
    """

    def __init__(
        self, settings: Settings, plan: Plan, run: str, answers: Answers, ahead: int
    ) -> None:
        self._plan = plan
        self._run_name = run
        self._answers = answers
        self._ahead = ahead
        self._producer = SpeechProducer(settings)
        self._over = threading.Event()
        self.due: list[float] = []
        self.sent: list[float] = []
        self.urgent: set[int] = set()
        self._dice = random.Random(plan.seed)  # noqa: S311 - a mix, not a secret
        self.began = 0.0
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        self.began = time.monotonic() + _HEAD_START_S
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether all that was planned is sent."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Send nothing more, and wait until the broker has what was sent. Raises ProducerBusy."""
        self._over.set()
        self._answers.wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._producer.close()

    def _run(self) -> None:
        try:
            for number, (text, due) in enumerate(zip(texts(self._plan), self._moments())):  # noqa: B905 - neither ends
                self._submit(number, text, due)
        except Exception as error:  # noqa: BLE001 - the run's own thread raises it
            self.error = error
        self._answers.wake()

    def _moments(self) -> Iterator[float]:
        """When each request is to be sent; returns when it is time."""
        if self._plan.rate is None:
            yield from self._as_answered()
            return
        for offset in scheduled(self._plan, self._plan.rate):
            due = self.began + offset
            if self._over.wait(max(0.0, due - time.monotonic())):
                return
            yield due

    def _as_answered(self) -> Iterator[float]:
        def room() -> int:
            return self._ahead - (len(self.sent) - self._answers.count)

        while not self._over.is_set():
            self._answers.wait(lambda: room() > 0 or self._over.is_set(), 1.0)
            for _ in range(room()):
                if self._over.is_set():
                    return
                yield time.monotonic()

    def _submit(self, number: int, text: str, due: float) -> None:
        # A seed of its own: no two requests have the same result, so none is found in the store.
        name = request_id(self._run_name, number)
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
        urgent = self._dice.random() < self._plan.urgent
        if urgent:
            self.urgent.add(number)
        self.due.append(due)
        self.sent.append(time.monotonic())
        request = make_request(text, request_id=name, seed=seed)
        submission = self._producer.submit(request, urgent=urgent)
        submission.delivered.add_done_callback(self._delivered)

    def _delivered(self, future: "Future[None]") -> None:
        error = future.exception()
        if isinstance(error, SpeechmillError) and self.error is None:
            self.error = error
            self._answers.wake()


def scheduled(plan: Plan, rate: float) -> Iterator[float]:
    """The moments of all requests of a plan with a rate, in seconds from the start: those of the
    warm-up, then those that count."""
    counted = 0
    for at in poisson(rate, plan.seed):
        if plan.seconds is not None and at >= plan.warm_up_s + plan.seconds:
            return
        if plan.requests is not None and counted == plan.requests:
            return
        counted += at >= plan.warm_up_s
        yield at
