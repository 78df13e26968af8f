"""How much may be under way at once, so that memory does not depend on the backlog.

Owns the limits and the two marks. Any thread may add and take away; the poll thread asks whether
it may poll on.
"""

import threading
from dataclasses import dataclass

__all__ = ["Load", "Window"]


#: What urgent requests may take beyond the limits, as a share of them.
RESERVE = 0.25


@dataclass(frozen=True, slots=True)
class Load:
    """An amount of work: requests, characters of text, bytes of samples held in memory."""

    requests: int
    characters: int
    audio_bytes: int


class Window:
    """Full from the moment one count reaches its limit until all are at most half of theirs.

    The gap between the marks keeps partitions from being paused and resumed at every record: the
    client throws away what it has fetched when a partition is paused.
    """

    def __init__(self, limit: Load) -> None:
        self.limit = limit
        self._characters = 0
        self._audio_bytes = 0
        self._full = False
        self._lock = threading.Lock()

    def add(self, *, characters: int = 0, audio_bytes: int = 0) -> None:
        """Count work in, or out with negative numbers."""
        with self._lock:
            self._characters += characters
            self._audio_bytes += audio_bytes

    def load(self, requests: int) -> Load:
        """What is under way; the caller knows how many ``requests`` (the ledger's count)."""
        with self._lock:
            return Load(requests, self._characters, self._audio_bytes)

    def audio_full(self) -> bool:
        """Whether no more audio may be begun. From any thread."""
        with self._lock:
            return self._audio_bytes >= self.limit.audio_bytes

    def full(self, requests: int) -> bool:
        """Whether to stop polling; remembers its answer, for the low mark. Poll thread only."""
        share = self._share(requests)
        self._full = share >= 1.0 or (self._full and share > 0.5)
        return self._full

    def brimful(self, requests: int) -> bool:
        """Whether to stop polling for what is urgent, too: it has a little room of its own."""
        return self._share(requests) >= 1.0 + RESERVE

    def _share(self, requests: int) -> float:
        load, limit = self.load(requests), self.limit
        return max(
            load.requests / limit.requests,
            load.characters / limit.characters,
            load.audio_bytes / limit.audio_bytes,
        )
