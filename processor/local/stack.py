"""The embedded parts together, and workers beside them.

Owns the order of starting and stopping. What it starts are child processes, which end with it.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from processor.kafka import create_topics
from processor.local.broker import EmbeddedBroker
from processor.local.bucket import EmbeddedBucket
from processor.local.child import Child
from processor.settings import Settings, cores, load

__all__ = ["Stack", "start_worker"]


class Stack:
    """A broker and an object store over ``folder``, with our topics and our bucket.

    Start it from the main thread: the children end when the thread that started them does.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.workers: list[Child] = []
        self.broker = EmbeddedBroker(folder)
        try:
            self.bucket = EmbeddedBucket(folder)
            self.broker.wait_ready()
            self.bucket.wait_ready()
            create_topics(self.settings().kafka, timeout_s=10.0)
        except BaseException:
            self.stop()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead a command to these parts."""
        return {
            "SPEECHMILL_KAFKA__BOOTSTRAP": self.broker.bootstrap,
            "SPEECHMILL_KAFKA__SESSION_TIMEOUT_MS": str(EmbeddedBroker.SESSION_TIMEOUT_MS),
            "SPEECHMILL_KAFKA__DELIVERY": EmbeddedBroker.DELIVERY,
            "SPEECHMILL_STORE__ENDPOINT": self.bucket.endpoint,
            "SPEECHMILL_WORKER__SLOT_DIR": str(self.folder.resolve() / "slots"),
        }

    def settings(self, **overrides: dict[str, object]) -> Settings:
        """The settings that lead to these parts, with ``overrides`` by group."""
        groups: dict[str, dict[str, object]] = {
            "kafka": {
                "bootstrap": self.broker.bootstrap,
                "session_timeout_ms": EmbeddedBroker.SESSION_TIMEOUT_MS,
                "delivery": EmbeddedBroker.DELIVERY,
            },
            "store": {"endpoint": self.bucket.endpoint},
        }
        for name, values in overrides.items():
            groups[name] = groups.get(name, {}) | values
        return load(overrides=groups)

    def add_worker(self, name: str, environment: Mapping[str, str] | None = None) -> Child:
        """One more worker of the consumer group."""
        worker = start_worker(name, self.folder, {**self.environment, **(environment or {})})
        self.workers.append(worker)
        return worker

    def check(self) -> None:
        """Raise ChildFailed if one of the parts has ended by itself."""
        for child in (self.broker.child, self.bucket.child, *self.workers):
            child.check()

    def stop(self, seconds: float = 25.0) -> None:
        """Workers first, all at once, so that they can finish; then what they need."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.stop(seconds)
        if hasattr(self, "bucket"):
            self.bucket.stop()
        self.broker.stop()


def start_worker(name: str, folder: Path, environment: Mapping[str, str]) -> Child:
    """A worker in a process of its own; its log is ``folder/NAME.log``."""
    return Child(
        f"worker {name}",
        [sys.executable, "-m", "processor", "worker"],
        folder / f"{name}.log",
        {"SPEECHMILL_WORKER__NAME": name, "SPEECHMILL_LOG__FORMAT": "json", **environment},
    )


def threads_each(workers: int) -> int:
    """CPU threads for each of ``workers`` that share this machine."""
    return max(1, cores() // workers)
