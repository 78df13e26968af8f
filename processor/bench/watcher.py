"""Reads the workers' metrics, again and again, from a thread of its own."""

import threading
import time
from collections.abc import Mapping

from processor.bench import page
from processor.bench.page import Page, PageMissing

__all__ = ["Watcher"]


class Watcher:
    """Keeps every reading of every worker, oldest first."""

    def __init__(self, urls: Mapping[str, str], every_s: float) -> None:
        """``urls`` by the worker's name. Raises PageMissing if one can't be read at once."""
        self._urls = dict(urls)
        self._every_s = every_s
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.pages: dict[str, list[Page]] = {name: [] for name in urls}
        self.error: PageMissing | None = None
        self.look()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def look(self) -> dict[str, Page]:
        """A reading of each worker, now; it is kept. From any thread. Raises PageMissing."""
        with self._lock:
            now = {name: page.read(url) for name, url in self._urls.items()}
            for name, reading in now.items():
                self.pages[name].append(reading)
            return now

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            due = max(due + self._every_s, time.monotonic())
            if self._over.wait(due - time.monotonic()):
                return
            try:
                self.look()
            except PageMissing as error:  # the run's own thread raises it
                self.error = error
                return
