"""An engine in a process of its own: its Python and ours do not share an interpreter lock.

Owns that process and the pipes to it, one a lane. For engines whose loop runs in Python for much of
the time: in one process, every step of theirs and of the I/O threads would wait for the other.
Audio comes back through the pipe; a batch of sixteen is a few megabytes.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, cast

import structlog

from processor.engines.base import Capabilities, Engine, Speech, Utterance
from processor.errors import RequestError, SpeechmillError
from processor.settings import Settings

__all__ = ["EngineApart"]

_log = structlog.get_logger()


class EngineApart:
    """Implements Engine by asking another process, which makes the engine that the settings name.

    ``check`` is answered by an engine of the same kind here, which is never warmed up. Raises what
    making the engine raises. If the process dies, every call under way raises EOFError: an input
    that kills the engine kills the worker, too, whose successor will find out which it was.
    """

    def __init__(self, settings: Settings, local: Engine) -> None:
        self.capabilities: Capabilities = local.capabilities
        self._local = local
        spawn = multiprocessing.get_context("spawn")
        pairs = [spawn.Pipe() for _ in range(self.capabilities.lanes + 1)]
        self._control: Connection = pairs[0][0]
        self._free = [near for near, _ in pairs[1:]]
        self._lock = threading.Lock()
        theirs = [far for _, far in pairs]
        self._process = spawn.Process(
            target=_serve, args=(_plain(settings), theirs), name="engine", daemon=True
        )
        self._process.start()
        for far in theirs:
            far.close()  # the other side's alone, so that its end is noticed here

    def warm_up(self) -> None:
        self._ask(self._control, "warm_up")
        _log.info("engine apart", pid=self._process.pid)

    def check(self, text: str) -> None:
        self._local.check(text)

    def synthesize(self, batch: Sequence[Utterance]) -> list[Speech | RequestError]:
        with self._lock:
            pipe = self._free.pop()
        try:
            return cast(list[Speech | RequestError], self._ask(pipe, list(batch)))
        finally:
            with self._lock:
                self._free.append(pipe)

    def close(self) -> None:
        self._control.close()
        for pipe in self._free:
            pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()

    @staticmethod
    def _ask(pipe: Connection, what: object) -> Any:
        pipe.send(what)
        good, answer = pipe.recv()
        if not good:
            raise answer
        return answer


def _serve(settings: Settings, pipes: list[Connection]) -> None:
    """The other process: a thread for each pipe, until they are closed."""
    # A stop is the worker's to arrange; it closes the pipes when the work is done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    from processor import engines

    engine = engines.make(settings)
    threads = [
        threading.Thread(target=_answer, args=(engine, pipe), daemon=True) for pipe in pipes[1:]
    ]
    for thread in threads:
        thread.start()
    _answer(engine, pipes[0])
    os._exit(0)  # without waiting for a call that hangs


def _answer(engine: Engine, pipe: Connection) -> None:
    while True:
        try:
            asked = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            if asked == "warm_up":
                engine.warm_up()
                pipe.send((True, None))
            else:
                pipe.send((True, engine.synthesize(asked)))
        except Exception as error:  # noqa: BLE001 - a model may raise anything; the worker decides
            pipe.send((False, _portable(error)))


def _plain(settings: Settings) -> Settings:
    """The same, of a class that the other process can find."""
    return Settings.model_construct(**dict(settings))


def _portable(error: Exception) -> Exception:
    """An exception that the other side can make again: its own kind where that matters."""
    if isinstance(error, MemoryError):
        return MemoryError(str(error))
    if isinstance(error, SpeechmillError):
        return SpeechmillError(str(error))
    return RuntimeError(f"{type(error).__name__}: {error}")
