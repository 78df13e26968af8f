"""What the services' servers have in common: each is one process, started and ended by a test."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import ClassVar, Self

from .errors import ServiceError
from .process import ChildProcess


class Server(ABC):
    """One child process of a service: its life, its log.

    For use in a `with` or by `start` and `stop`. A subclass says in `_prepare` what the process
    needs from `start` to `stop`, and in `_launch` how it is run.
    """

    soft_stop_deadline_s: ClassVar[float] = 10.0
    """What `kill(hard=False)` gives it to end by itself."""

    def __init__(self) -> None:
        self._child: ChildProcess | None = None
        self._until_stop = ExitStack()

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Provision if need be, and start without any data; returns when it answers.

        Raises:
            ProvisionError: its program can't be had.
            ServiceError: it was started already, ended, or did not answer in time.
        """
        if self._child is not None:
            raise ServiceError(f"{type(self).__name__}: started already")
        try:
            self._prepare()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill it and delete its throw-away data. Does nothing if it was not started."""
        self.kill()
        self._child = None
        self._until_stop.close()

    def kill(self, hard: bool = True) -> None:
        """End it and keep its data: `hard` with SIGKILL, else by SIGTERM."""
        if self._child is None:
            return
        if hard:
            self._child.kill()
        else:
            self._child.terminate(self.soft_stop_deadline_s)

    def restart(self) -> None:
        """Start it again on its port and data, shut down first if it runs."""
        if self._child is None:
            raise ServiceError(f"{type(self).__name__}: never started")
        self.kill(hard=False)
        self._launch()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its connections stay open, and nothing answers."""
        if self._child is not None:
            self._child.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        if self._child is not None:
            self._child.resume()

    def log_tail(self) -> str:
        """The end of what it printed."""
        return self._child.log_tail() if self._child else ""

    @abstractmethod
    def _prepare(self) -> None:
        """Get what lasts from `start` to `stop`; `_until_stop` gives it back."""

    @abstractmethod
    def _launch(self) -> None:
        """Set `_child`; at a restart too."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
