"""The client library: submit requests, know that they arrived, wait for their audio.

Owns the producing side of the request topic. A ``SpeechProducer`` may be shared by threads.
"""

import threading
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from processor import registry
from processor.checks import from_fields
from processor.codec import Codec
from processor.errors import Code, PublishError, RequestError, SettingsError, SpeechmillError, Stage
from processor.events import SpeechCompleted, SpeechRequest
from processor.kafka import producer_config, topic_partitions
from processor.settings import Settings, load
from processor.telemetry import quieten
from producers.completions import CompletionReader

__all__ = ["ProducerBusy", "ProducerClosed", "SpeechProducer", "Submission", "make_request"]


class ProducerBusy(SpeechmillError):
    """The broker takes requests more slowly than they come, and the time to wait is over."""


class ProducerClosed(SpeechmillError):
    """The producer was closed."""


def make_request(text: str | None = None, **fields: Any) -> SpeechRequest:
    """A request with a fresh ``request_id`` and ``created_at`` unless they are given.

    ``fields`` are those of SpeechRequest, ``output`` and ``emotion`` as dicts. Raises RequestError
    that names the field at fault.
    """
    given = {"request_id": str(uuid.uuid4()), "created_at": datetime.now(UTC)} | fields
    return from_fields(SpeechRequest, given if text is None else given | {"text": text})


class Submission:
    """One request on its way.

    ``delivered`` is done when the broker has the request safely, or failed with PublishError.
    ``completion`` is done when the worker has answered; its result is a SpeechCompleted, also of a
    failed request (look at ``status``). Only a producer with ``follow=True`` fills it.
    """

    def __init__(self, request: SpeechRequest) -> None:
        self.request = request
        self.delivered: Future[None] = Future()
        self.completion: Future[SpeechCompleted] = Future()
        # Running, so that nobody can cancel them: asyncio does at a time-out, and a cancelled
        # future can't be given its result.
        self.delivered.set_running_or_notify_cancel()
        self.completion.set_running_or_notify_cancel()

    def fail(self, error: Exception) -> None:
        """End what is still open with ``error``."""
        for future in (self.delivered, self.completion):
            if not future.done():
                future.set_exception(error)


class SpeechProducer:
    """Submits to the request topic; with ``follow``, reads the completions of what it submitted.

    Without ``settings`` they are loaded as by the command line (environment, files).
    Raises BrokerUnavailable if no broker answers, SettingsError if a topic is missing.
    """

    def __init__(self, settings: Settings | None = None, *, follow: bool = False) -> None:
        quieten()
        self._settings = settings or load()
        kafka = self._settings.kafka
        there = topic_partitions(kafka, timeout_s=5.0)
        for setting, topic in (("requests", kafka.requests), ("priority", kafka.priority)):
            if not there.get(topic):
                raise SettingsError(
                    f"kafka.{setting}: there is no topic {topic}; "
                    "`speechmill topics create` makes it"
                )
        self._codec = Codec(registry.connect(self._settings.registry))
        self._waiting: dict[str, list[Submission]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._reader = CompletionReader(kafka, self._codec) if follow else None
        self._producer = Producer(producer_config(kafka, "speechmill-producer"))
        self._threads = [threading.Thread(target=self._report, name="reports", daemon=True)]
        if self._reader is not None:
            self._threads.append(
                threading.Thread(
                    target=self._follow, args=(self._reader,), name="completions", daemon=True
                )
            )
        for thread in self._threads:
            thread.start()

    @property
    def topic(self) -> str:
        """The request topic."""
        return self._settings.kafka.requests

    def submit(
        self,
        request: SpeechRequest,
        *,
        key: str | None = None,
        urgent: bool = False,
        timeout_s: float = 60.0,
    ) -> Submission:
        """Hand over one request; returns at once unless the client's queue is full.

        Requests with the same ``key`` go to one partition, so one worker answers them in order;
        without a key each may go to any worker. ``urgent`` ones go to the priority topic, and are
        spoken before all others.

        Raises RequestError if the text is longer than a worker takes, ProducerBusy if the queue was
        full for ``timeout_s``, PublishError if the broker can never take it.
        """
        if self._closing.is_set():
            raise ProducerClosed("the producer is closed")
        limit = self._settings.text.max_characters
        if request.text is not None and len(request.text) > limit:
            raise RequestError(
                Code.TEXT_TOO_LONG,
                f"text: longer than {limit} characters; split it, as "
                "producers.documents.split_text does",
                stage=Stage.PREPARE,
                field="text",
            )
        submission = Submission(request)
        if self._reader is not None:
            with self._lock:
                self._waiting.setdefault(request.request_id, []).append(submission)
        try:
            kafka = self._settings.kafka
            topic = kafka.priority if urgent else kafka.requests
            self._produce(submission, topic, key or request.request_id, timeout_s)
        except SpeechmillError:
            self._forget(submission)
            raise
        return submission

    def submit_many(
        self, requests: Iterable[SpeechRequest], *, timeout_s: float = 60.0
    ) -> Iterator[Submission]:
        """``submit`` each as it is asked for: a source of any length takes bounded memory."""
        for request in requests:
            yield self.submit(request, timeout_s=timeout_s)

    def flush(self, timeout_s: float) -> int:
        """Wait until the broker has all requests; how many it has not after ``timeout_s``."""
        return self._producer.flush(timeout_s)

    def close(self, timeout_s: float = 30.0) -> None:
        """Deliver what is under way, and stop following.

        Raises ProducerBusy if some could not be delivered in time: those are not delivered later
        either. A completion that is still awaited fails with ProducerClosed.
        """
        left = self._producer.flush(timeout_s)
        self._closing.set()
        if left:
            self._producer.purge()
            self._producer.flush(1.0)
        for thread in self._threads:
            thread.join()
        if self._reader is not None:
            self._reader.close()
        self._fail_waiting(ProducerClosed("the producer was closed before the answer came"))
        if left:
            raise ProducerBusy(f"{left} requests were not delivered within {timeout_s:g} s")

    def __enter__(self) -> "SpeechProducer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # On the way out of an error, do not hide it behind a wait for the broker.
        self.close(timeout_s=30.0 if kind is None else 1.0)

    def _produce(self, submission: Submission, topic: str, key: str, timeout_s: float) -> None:
        request = submission.request
        value = self._codec.encode(request, topic=topic)

        def report(error: KafkaError | None, _: object) -> None:
            if error is None:
                submission.delivered.set_result(None)
                return
            submission.fail(PublishError(f"{request.request_id}: {error.str()}"))
            self._forget(submission)

        waited = 0.0
        while True:
            try:
                self._producer.produce(topic, key=key.encode(), value=value, on_delivery=report)
            except BufferError:
                if waited >= timeout_s:
                    raise ProducerBusy(
                        f"the broker took nothing for {timeout_s:g} s; see `speechmill doctor`"
                    ) from None
                self._closing.wait(0.05)  # the reports thread makes room meanwhile
                waited += 0.05
            except KafkaException as error:
                raise PublishError(f"{request.request_id}: {error.args[0].str()}") from error
            else:
                return

    def _forget(self, submission: Submission) -> None:
        with self._lock:
            waiting = self._waiting.get(submission.request.request_id, [])
            if submission in waiting:
                waiting.remove(submission)
            if not waiting:
                self._waiting.pop(submission.request.request_id, None)

    def _fail_waiting(self, error: Exception) -> None:
        with self._lock:
            waiting = [one for several in self._waiting.values() for one in several]
            self._waiting.clear()
        for submission in waiting:
            submission.fail(error)

    def _report(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.2)

    def _follow(self, reader: CompletionReader) -> None:
        while not self._closing.is_set():
            try:
                events = reader.read(0.2)
            except SpeechmillError as error:  # nothing will be read any more: all must hear of it
                self._fail_waiting(error)
                return
            for event in events:
                with self._lock:
                    waiting = self._waiting.get(event.request_id)
                    submission = waiting.pop(0) if waiting else None
                    if not waiting:
                        self._waiting.pop(event.request_id, None)
                if submission is not None:
                    submission.completion.set_result(event)
