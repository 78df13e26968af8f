"""The loop that wires the parts: poll, hand over, collect, publish.

Three kinds of threads, and one rule each:

- the poll thread (the caller's) alone touches consumer, producer and ledger; it waits for neither
  the device nor the store;
- the I/O threads (see stages) may wait, for as long as somebody wants the result;
- the lanes (see lanes) wait for the device alone.

What passes between them: tickets one way, results the other.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

import structlog

from processor.codec import Codec
from processor.engines.base import Engine
from processor.errors import SpeechmillError, Superseded
from processor.health import Beat, Pulse
from processor.intake import Intake
from processor.job import Outcome, Record, Ticket
from processor.ledger import Ledger, Partition, Position
from processor.membership import RebalanceListener
from processor.metrics import Metrics
from processor.publisher import Publisher
from processor.settings import Settings
from processor.source import KafkaSource
from processor.stages import Stages
from processor.store import ObjectStore
from processor.window import RESERVE, Load, Window

__all__ = ["Worker"]

_log = structlog.get_logger()

#: The longest that poll blocks when nothing is under way: how soon a stop is noticed, in seconds.
_IDLE_S = 0.5
#: Records taken at once; few, so that a flush is never far off and no partition takes another's
#: share of the window.
_AT_ONCE = 16


#: A partition may have so many records under way, however many partitions share the window.
_LEAST_SHARE = 8


class Worker(RebalanceListener):
    """One member of the consumer group, with its engine. ``run`` returns after ``stop``.

    The engine must be warm. ``connect`` makes the source; the worker listens to its rebalances.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: ObjectStore,
        codec: Codec,
        publisher: Publisher,
        connect: Callable[[RebalanceListener], KafkaSource],
        metrics: Metrics | None = None,
    ) -> None:
        limits = settings.worker
        self.metrics = metrics or Metrics()
        self._drain_s = limits.drain_s
        self._flush_s = settings.worker.flush_ms / 1000
        self._stopping = threading.Event()
        self._deadline = float("inf")  # of the stop, once there is one
        self._beat = Beat()
        self._joined = False
        self._broker_away: str | None = None
        self._window = Window(
            Load(limits.window_requests, limits.window_characters, limits.window_audio_bytes)
        )
        self._ledger: Ledger[Outcome] = Ledger()
        self._tickets: set[Ticket] = set()
        self._stuck_s = settings.health.engine_stuck_s
        self._broken = False
        self._priority = settings.kafka.priority
        self._stages = Stages(settings, engine, store, codec, self._window, self.metrics)
        self._intake = Intake(self._stages, window=limits.window_requests, max_deaths=limits.deaths)
        self._publisher = publisher
        self._connect = connect
        self._paused: set[Partition] = set()
        self._full = False
        # The client keeps a partition's pause over its loss and return: of these we can't know.
        self._unsure: set[Partition] = set()
        self._flushed = 0.0
        self._hurry = False  # something urgent is to be published
        for what in ("requests", "characters", "audio_bytes"):
            self.metrics.window.labels(what).set_function(partial(self._load_in, what))
        self.counts: Counter[str] = Counter()

    @property
    def partitions(self) -> list[Partition]:
        """Those that are ours. From any thread; a moment later it may be otherwise."""
        return self._ledger.partitions

    @property
    def paused(self) -> bool:
        """Whether the window is full. From any thread."""
        return self._full

    @property
    def waiting(self) -> int:
        """Segments that wait for the device. From any thread."""
        return self._stages.waiting

    @property
    def load(self) -> Load:
        """What is under way. From any thread."""
        return self._window.load(self._ledger.under_way())

    def _load_in(self, what: str) -> float:
        return float(getattr(self.load, what))

    def pulse(self) -> Pulse:
        """How it is at this moment. From any thread."""
        load = self.load
        return Pulse(
            loop_age_s=self._beat.age_s,
            call_age_s=self._stages.call_age_s,
            joined=self._joined,
            stopping=self._stopping.is_set(),
            outage=self._stages.outage or self._broker_away,
            facts={
                "partitions": sorted(number for _, number in self.partitions),
                "paused": self.paused,
                "requests": load.requests,
                "audio_bytes": load.audio_bytes,
                "counts": dict(self.counts),
            },
        )

    def stop(self) -> None:
        """Ask ``run`` to drain and return. From any thread or a signal handler."""
        if not self._stopping.is_set():
            self._deadline = time.monotonic() + self._drain_s
            self._stopping.set()

    def run(self) -> bool:
        """Work until ``stop``; True if the engine is at rest and may be closed.

        Raises PublishError, Fenced, SettingsError or BrokerUnavailable if the worker can't go on;
        then, as after a crash, nothing unfinished is committed.
        """
        self._source = self._connect(self)
        self._stages.start()
        _log.info("worker ready")
        resting = False
        try:
            while not self._stopping.is_set():
                self._step(_AT_ONCE, self._poll_timeout())
            self._drain()
        except Exception as error:
            # An error that nobody foresaw counts as a death: the record at hand may bring it again.
            self._broken = not isinstance(error, SpeechmillError)
            raise
        finally:
            resting = self._shut()
        return resting

    # -- the poll thread ------------------------------------------------------------------------

    def _step(self, most: int, timeout_s: float) -> None:
        self._beat.now()
        # Once the window is full, only what is urgent comes, and has room of its own.
        limit = self._window.limit.requests * (1 + RESERVE if self._full else 1)
        room = int(limit) - self._ledger.under_way()
        records = self._source.poll(max(1, min(most, room)), timeout_s)
        if records:
            with self.metrics.stage("take"):
                for record in records:
                    self._accept(record)
        self._intake.begin(self._source, self._at_work)
        self._collect(0.0)
        now = time.monotonic()
        if self._hurry or now - self._flushed >= self._flush_s:
            self._flush()
            self._flushed = now
            self._hurry = False
        self._hold_back()

    def _poll_timeout(self) -> float:
        return max(0.005, self._flush_s / 2) if self._ledger.under_way() else _IDLE_S

    def _accept(self, record: Record) -> None:
        partition = (record.topic, record.partition)
        if self._ledger.goes_back(partition, record.offset):
            _log.warning("offsets went back: topic made anew or cut?", partition=partition,
                         offset=record.offset)  # fmt: skip
            self.lost([partition])
            self.assigned([partition])
        tenure = self._ledger.take(partition, record.offset)
        if tenure is None:  # left in the client's queue by a partition that is no longer ours
            return
        ticket = Ticket(record, tenure, self._window)
        self._tickets.add(ticket)
        self._intake.take(ticket)

    def _at_work(self, partitions: Iterable[Partition] | None = None) -> int:
        """How many records are begun and not settled."""
        wanted = None if partitions is None else set(partitions)
        return self._ledger.under_way(wanted) - self._intake.held(wanted)

    def _collect(self, timeout_s: float) -> None:
        """Enter what has come back; waits up to ``timeout_s`` for the first."""
        for ticket, outcome in self._stages.results(timeout_s):
            self._release([ticket])
            if outcome is not None:
                self._hurry = self._hurry or ticket.record.topic == self._priority
                self._ledger.finish(ticket.tenure, ticket.record.offset, outcome)

    def _flush(self) -> None:
        """Publish every finished prefix and commit it."""
        moves = self._ledger.ready()
        if not moves and not self._publisher.owes:
            return
        outcomes = [outcome for _, _, prefix in moves for outcome in prefix]
        try:
            with self.metrics.stage("publish"):
                self._publisher.publish(
                    [message for outcome in outcomes for message in outcome.messages],
                    {
                        partition: Position(position, self._intake.note(partition, position))
                        for partition, position, _ in moves
                    },
                    self._source,
                    self._give_up,
                )
        except Superseded as error:
            # The next poll brings the rebalance, which says what of this is still ours.
            self.metrics.publications.labels("superseded").inc()
            _log.info("not published", reason=str(error), requests=len(outcomes))
            return
        finally:
            self._broker_away = None
        for partition, position, _ in moves:
            self._ledger.settle(partition, position)
        self.metrics.publications.labels("done").inc()
        for outcome in outcomes:
            status = str(outcome.status or "dead letter only")
            self.counts[status] += 1
            self.metrics.requests.labels(status).inc()
            if outcome.manifest is not None:
                self.metrics.answered(outcome.manifest.audio.duration_ms / 1000)
            if outcome.code is not None:
                self.metrics.failures.labels(outcome.code).inc()

    def _give_up(self) -> bool:
        """Asked by the publisher each time that it is about to try again."""
        self._beat.now()
        self._broker_away = "no broker confirms what is published"
        return time.monotonic() > self._deadline

    def _hold_back(self) -> None:
        """Pause partitions while the window is full, or something is held."""
        under_way, ours = self._ledger.under_way(), set(self._ledger.partitions)
        full = self._window.full(under_way)
        wanted: set[Partition] = set()
        if self._intake.held() or self._window.brimful(under_way):
            wanted = ours
        else:
            ordinary = [partition for partition in ours if partition[0] != self._priority]
            fair = self._window.limit.requests / max(1, len(ordinary))
            share = max(_LEAST_SHARE, math.ceil(fair))
            wanted = {place for place in ordinary if full or self._has_share(place, share)}
        self._full = full or (bool(ours) and wanted == ours)
        if running := wanted - self._paused:
            self._source.pause(running)
            self.metrics.pauses.inc(len(running))
        if halted := (self._paused | self._unsure) - wanted:
            self._source.resume(halted)
        self._paused = wanted
        self._unsure.clear()

    def _has_share(self, partition: Partition, share: int) -> bool:
        """Whether a partition has its share of the window, until it is down to half of that.

        The client gives out what it has fetched in the order in which it came: without this, the
        partitions that come first in a broker's answer would take all of the window each time.
        """
        low = share // 2 if partition in self._paused else share - 1
        return self._ledger.depth(partition) > low

    def _settle(self, partitions: list[Partition], seconds: float) -> None:
        """Let work of these partitions finish and publish it; give up after ``seconds``."""
        deadline = min(time.monotonic() + seconds, self._deadline)
        while self._at_work(partitions) and (left := deadline - time.monotonic()) > 0:
            self._collect(min(left, self._flush_s))
            self._flush()

    def _drain(self) -> None:
        under_way = self._ledger.under_way()
        _log.info("draining", requests=under_way, seconds=self._drain_s)
        self._source.pause(self._ledger.partitions)
        self._paused = set(self._ledger.partitions)
        while self._at_work() and time.monotonic() < self._deadline:
            # Polling goes on, with all partitions paused: a rebalance must not wait for the drain.
            self._source.poll(1, 0)
            self._collect(self._flush_s)
            self._flush()
        self._flush()
        if left := self._ledger.under_way():
            _log.warning("not finished in time; left to the next owner", requests=left)

    def _shut(self) -> bool:
        self._deadline = 0.0  # the rebalance that closing brings must not wait again
        self._stages.close()
        self._source.close()
        self._ledger.close(self._ledger.partitions)
        self._publisher.close()
        resting = self._stages.rest(timeout_s=5.0)
        if not resting:
            _log.warning("the engine is still at work; leaving it")
        _log.info("worker stopped", **self.counts)
        return resting

    def _release(self, tickets: Iterable[Ticket]) -> None:
        """Give back what these take of the window."""
        for ticket in tickets:
            ticket.release()
            self._tickets.discard(ticket)
        self._stages.wake()

    # -- rebalances, within poll ----------------------------------------------------------------

    def assigned(self, partitions: list[Partition]) -> None:
        self._joined = True
        self.metrics.rebalances.labels("assigned").inc(len(partitions))
        self._ledger.open(partitions)
        self._unsure |= set(partitions)

    def revoked(self, partitions: list[Partition]) -> None:
        self.metrics.rebalances.labels("revoked").inc(len(partitions))
        self._settle(partitions, self._drain_s)
        self._leave(partitions)
        self.lost(partitions)

    def lost(self, partitions: list[Partition]) -> None:
        self._ledger.close(partitions)
        self._publisher.forget(partitions)
        self._intake.close(partitions)
        self._paused -= set(partitions)
        self._unsure -= set(partitions)
        # What is under way there may never come back: the pool forgets what nobody wants.
        over = [ticket for ticket in self._tickets if ticket.tenure.over]
        self._stages.forget(over)
        self._release(over)

    def _leave(self, partitions: list[Partition]) -> None:
        """Tell the next owner that this one did not die; if it can't be told, it will be careful.

        Not if the device hangs, or an error that nobody foresaw ends this worker: that is a death.
        """
        if self._broken or self._broker_away or self._stages.call_age_s > self._stuck_s:
            return
        positions = ((partition, self._ledger.position(partition)) for partition in partitions)
        if farewells := dict(self._intake.farewells(positions)):
            self._source.commit_soon(farewells)
