"""A worker's ``/metrics`` as numbers, and the differences between two of them."""

import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

from processor.errors import SpeechmillError

__all__ = ["Page", "PageMissing", "read"]

_TIMEOUT_S = 10.0
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class PageMissing(SpeechmillError):
    """A worker's metrics can't be read; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Page:
    """One reading. ``at`` is on the monotonic clock; ``values`` by sample, labels included, as
    they are written: ``speechmill_requests_total{status="completed"}``."""

    at: float
    values: dict[str, float]

    def value(self, name: str) -> float:
        """Of a sample of ours without labels, without its prefix; 0 if it is not there."""
        return self.values.get(f"speechmill_{name}", 0.0)

    def labelled(self, name: str, label: str) -> dict[str, float]:
        """Of each value of ``label``, what all samples ``name`` of ours with it add up to."""
        found: dict[str, float] = {}
        for sample, value in self._of(f"speechmill_{name}"):
            key = dict(_LABEL.findall(sample)).get(label)
            if key is not None:
                found[key] = found.get(key, 0.0) + value
        return found

    def since(self, earlier: "Page") -> "Page":
        """What has been added; ``at`` is the seconds between the two."""
        added = {name: value - earlier.values.get(name, 0.0) for name, value in self.values.items()}
        return Page(self.at - earlier.at, added)

    @property
    def busy_s(self) -> float:
        """Seconds within calls to the engine, those under way included."""
        return self.value("engine_busy_seconds_total") + self.value("engine_under_way_seconds")

    @staticmethod
    def parse(text: str, at: float) -> "Page":
        """Prometheus's text format, as far as we write it."""
        lines = (line for line in text.splitlines() if line and not line.startswith("#"))
        pairs = (line.rpartition(" ") for line in lines)
        return Page(at, {name: float(value) for name, _, value in pairs})

    def _of(self, name: str) -> Iterator[tuple[str, float]]:
        return (item for item in self.values.items() if item[0].startswith(name + "{"))


def read(url: str) -> Page:
    """The page as it is now. Raises PageMissing."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the user's URL
            text = answer.read().decode()
    except (OSError, ValueError) as error:
        raise PageMissing(f"{url}: {error}") from None
    return Page.parse(text, time.monotonic())
