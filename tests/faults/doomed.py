"""A worker that kills itself at a named point, and one that writes down what it speaks.

    python -m tests.faults.doomed POINT NTH worker

is the real ``speechmill worker`` with the real parts, whose process ends by SIGKILL at the NTH
passing of POINT; with the point ``never`` it is a worker as any other. Each text that is given to
the device goes to the file that ``SPOKEN`` names, if it names one: ``+ text`` as the call begins,
``- text`` when it has returned. What is written outlives the process.

The points are reached by wrapping methods of the real classes: production code has no hooks. Needs
the engine ``simulated``, whose calls take long enough to die in.
"""

import http.client
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import confluent_kafka

from processor import transactions
from processor.engines.base import Speech, Utterance
from processor.engines.simulated import SimulatedEngine
from processor.errors import RequestError
from processor.job import Record
from processor.local.child import Child
from processor.source import KafkaSource
from processor.store import MinioStore
from tests.integration.mill import Mill

__all__ = ["POINTS", "Spoken", "doomed_at", "start"]

#: In the order in which a request comes by them.
POINTS = {
    "poll": "records were polled, and nobody has seen them yet",
    "synthesis": "a batch is on the device",
    "put": "half of an object's bytes are on their way to the store",
    "produce": "the messages of a transaction are at the broker, its offsets are not",
    "between": "the offsets of one topic are at the broker, those of the other are not",
    "offsets": "all its offsets are there, and it is not committed",
    "commit": "it is committed, and the worker does not know it yet",
}
_NEVER = "never"
#: How far into a call to the device it dies, in seconds: well within the shortest call.
_INTO_CALL_S = 0.01


# -- for a test ------------------------------------------------------------------------------------


class Spoken:
    """What several workers have given to their devices, from the file that they share."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "spoken.txt"
        self.file.touch()

    def counts(self) -> Counter[str]:
        """How often each text was begun."""
        return Counter(text for sign, text in self._lines() if sign == "+")

    def again(self) -> int:
        """How many texts were begun once more than needed, each time counted."""
        counts = self.counts()
        return counts.total() - len(counts)

    def under_way(self) -> int:
        """How many texts are on a device now, if no worker was killed."""
        signs = Counter(sign for sign, _ in self._lines())
        return signs["+"] - signs["-"]

    def _lines(self) -> list[tuple[str, str]]:
        lines = self.file.read_text(encoding="utf-8").splitlines()
        return [(line[:1], line[2:]) for line in lines]


def start(
    mill: Mill,
    name: str,
    spoken: Spoken,
    environment: Mapping[str, str],
    point: str = _NEVER,
    nth: int = 1,
) -> Child:
    """A worker that writes to ``spoken`` and dies at the ``nth`` passing of ``point``."""
    variables = {
        "SPOKEN": str(spoken.file),
        "SPEECHMILL_ENGINE__NAME": "simulated",
        **environment,
    }
    return mill.start_module(name, "tests.faults.doomed", point, str(nth), "worker", **variables)


def doomed_at(child: Child) -> str | None:
    """The point at which it died, by its own last words; None if it did not die of itself."""
    last = child.log.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
    died = child.returncode == -signal.SIGKILL and last.startswith(_WORDS)
    return last.removeprefix(_WORDS) if died else None


# -- in the worker's process -----------------------------------------------------------------------

_WORDS = "doomed at "


class _Doom:
    """Counts the passings of one point, from any thread."""

    def __init__(self, point: str, nth: int) -> None:
        self._point = point
        self._left = nth
        self._lock = threading.Lock()

    def due(self, point: str) -> bool:
        """Whether this passing of ``point`` is the one."""
        if point != self._point:
            return False
        with self._lock:
            self._left -= 1
            return self._left == 0

    def die(self) -> None:
        os.write(2, f"{_WORDS}{self._point}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    def strike(self, point: str) -> None:
        """A passing of ``point``, with nothing to prepare."""
        if self.due(point):
            self.die()


def _wrap_poll(doom: _Doom) -> None:
    poll = KafkaSource.poll

    def wrapped(self: KafkaSource, most: int, timeout_s: float) -> list[Record]:
        records = poll(self, most, timeout_s)
        if records:
            doom.strike("poll")
        return records

    KafkaSource.poll = wrapped  # type: ignore[method-assign]


def _wrap_synthesis(doom: _Doom, spoken: Callable[[str], None]) -> None:
    synthesize = SimulatedEngine.synthesize

    def wrapped(self: SimulatedEngine, batch: Sequence[Utterance]) -> list[Speech | RequestError]:
        spoken("".join(f"+ {utterance.text}\n" for utterance in batch))
        if doom.due("synthesis"):
            threading.Timer(_INTO_CALL_S, doom.die).start()
        results = synthesize(self, batch)
        spoken("".join(f"- {utterance.text}\n" for utterance in batch))
        return results

    SimulatedEngine.synthesize = wrapped  # type: ignore[method-assign]


def _wrap_put(doom: _Doom) -> None:
    put, send = MinioStore.put, http.client.HTTPConnection.send
    here = threading.local()  # what this thread does: it also asks the store for other things

    def wrapped_put(self: MinioStore, key: str, data: bytes, content_type: str) -> None:
        here.body = data
        try:
            put(self, key, data, content_type)
        finally:
            here.body = None

    def wrapped_send(self: http.client.HTTPConnection, data: Any) -> None:
        if data == getattr(here, "body", None) and doom.due("put"):
            send(self, data[: len(data) // 2])
            doom.die()
        send(self, data)

    MinioStore.put = wrapped_put  # type: ignore[method-assign]
    http.client.HTTPConnection.send = wrapped_send  # type: ignore[method-assign]


def _wrap_transactions(doom: _Doom) -> None:
    class Doomed(confluent_kafka.Producer):
        """Passes a point only in a transaction that holds messages."""

        def begin_transaction(self) -> None:
            self.produced = self.sent = 0
            super().begin_transaction()

        def produce(self, *arguments: Any, **named: Any) -> None:
            super().produce(*arguments, **named)
            self.produced += 1

        def send_offsets_to_transaction(self, *arguments: Any, **named: Any) -> None:
            if self.produced and not self.sent and doom.due("produce"):
                assert self.flush(10) == 0, "the broker has them all"
                doom.die()
            if self.sent and doom.due("between"):
                doom.die()
            super().send_offsets_to_transaction(*arguments, **named)
            self.sent += 1

        def commit_transaction(self, *arguments: Any, **named: Any) -> None:
            if self.produced and doom.due("offsets"):
                doom.die()
            super().commit_transaction(*arguments, **named)
            if self.produced and doom.due("commit"):
                doom.die()

    transactions.Producer = Doomed  # type: ignore[attr-defined]


def _main() -> None:
    _, point, nth, *arguments = sys.argv
    if point not in (*POINTS, _NEVER):
        sys.exit(f"no point {point}; there are {', '.join(POINTS)} and {_NEVER}")
    doom = _Doom(point, int(nth))
    to = os.open(os.environ.pop("SPOKEN", os.devnull), os.O_WRONLY | os.O_APPEND)

    def spoken(lines: str) -> None:
        os.write(to, lines.encode())

    _wrap_poll(doom)
    _wrap_synthesis(doom, spoken)
    _wrap_put(doom)
    _wrap_transactions(doom)
    sys.argv = ["speechmill", *arguments]

    from processor.commands import main

    main()


if __name__ == "__main__":
    _main()
