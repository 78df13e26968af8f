"""Workers that a run starts, each in a process of its own, and ends."""

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from processor.errors import SpeechmillError
from processor.local.child import Child, free_port
from processor.local.stack import start_worker
from processor.settings import PREFIX, Settings

__all__ = ["Fleet", "FleetFailed", "environment"]


class FleetFailed(SpeechmillError):
    """The workers did not come to share the topics; the message says how far they got."""


class Fleet:
    """``count`` workers with these settings; ``ready`` waits for them.

    Start it from the main thread: the children end when the thread that started them does.
    """

    def __init__(self, settings: Settings, run: str, count: int, folder: Path) -> None:
        self._ports = {f"{run}-{number}": free_port() for number in range(count)}
        variables = environment(settings) | {
            f"{PREFIX}WORKER__SLOT_DIR": str(folder.resolve() / "slots"),
            f"{PREFIX}HEALTH__ADDRESS": "127.0.0.1",
        }
        self.children: dict[str, Child] = {}
        try:
            for name, port in self._ports.items():
                own = variables | {f"{PREFIX}HEALTH__PORT": str(port)}
                self.children[name] = start_worker(name, folder, own)
        except BaseException:
            self.kill()
            raise

    @property
    def pages(self) -> dict[str, str]:
        """The URL of each worker's metrics, by its name."""
        return {name: self._url(name, "metrics") for name in self._ports}

    def ready(self, partitions: int, timeout_s: float) -> None:
        """Return once they share ``partitions`` evenly. Raises ChildFailed, FleetFailed."""
        deadline = time.monotonic() + timeout_s
        least = partitions // len(self.children)
        while True:
            shares = {name: self._share(name) for name in self.children}
            if sum(shares.values()) == partitions and min(shares.values()) >= least:
                return
            self.check()
            if time.monotonic() > deadline:
                log = next(iter(self.children.values())).log
                raise FleetFailed(
                    f"the workers did not share {partitions} partitions within {timeout_s:g} s: "
                    f"they have {', '.join(map(str, shares.values()))}; the first one says:\n"
                    + "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                )
            next(iter(self.children.values())).wait(0.1)

    def check(self) -> None:
        """Raise ChildFailed if one has ended by itself."""
        for child in self.children.values():
            child.check()

    def kill(self) -> None:
        """End them at once: what they still have to do is work that nobody waits for."""
        for child in self.children.values():
            child.signal(signal.SIGTERM)
        for child in self.children.values():
            # The first asks to finish, which takes as long as the window is deep; the second ends.
            child.wait(0.2)
            child.stop(5.0)

    def _share(self, name: str) -> int:
        """How many partitions a worker has; 0 while it is not ready."""
        try:
            with urllib.request.urlopen(self._url(name, "readyz"), timeout=5.0) as answer:  # noqa: S310
                return len(json.load(answer).get("partitions", ()))
        except (OSError, ValueError):  # also a 503
            return 0

    def _url(self, name: str, path: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}/{path}"


def environment(settings: Settings) -> dict[str, str]:
    """The variables that give a process these settings, except what each worker has for itself.

    All of them, also what is a default: a variable of ours may say otherwise.
    """
    found = {}
    for group in type(settings).model_fields:
        for name, value in getattr(settings, group):
            if value is not None and (group, name) not in _OWN:
                found[f"{PREFIX}{group}__{name}".upper()] = _written(value)
    return found


_OWN = {("worker", "name"), ("worker", "slot_dir"), ("health", "port"), ("log", "format")}


def _written(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    if isinstance(value, Iterable) and not isinstance(value, str):
        return json.dumps(sorted(value))
    return str(value)
