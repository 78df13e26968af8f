"""What must hold whatever was killed: invariants A to F of the design, for a committed reader."""

import hashlib
from collections import Counter, defaultdict

from processor.events import SpeechCompleted, Status
from tests.integration.mill import Mill
from tests.waiting import eventually

__all__ = ["check", "check_order"]


def check(mill: Mill, asked: list[str], seconds: float = 300) -> list[SpeechCompleted]:
    """A and B: one visible completion each; C: its object is in place, whole; D: none unasked;
    E: all offsets are committed in the end; and no good request is a dead letter."""
    events = mill.completions(len(asked), seconds)
    counts = Counter(event.request_id for event in events)
    doubled = [name for name, count in counts.items() if count > 1]
    assert not doubled, f"{len(doubled)} answered more than once: {doubled[:5]}"
    assert set(counts) == set(asked)
    assert {event.status for event in events} == {Status.COMPLETED}
    hashes = {event.audio.key: event.audio.sha256 for event in events if event.audio}
    for key, sha256 in hashes.items():
        assert hashlib.sha256(mill.store.get(key, 10_000_000)).hexdigest() == sha256
    mill.letters(0, seconds=1)
    eventually(lambda: mill.committed() == len(asked), "every offset to be committed", 60)
    return events


def check_order(mill: Mill, asked: dict[int, list[str]]) -> None:
    """F: the completions of one partition come in its order."""
    offsets: dict[int, list[int]] = defaultdict(list)
    answered: dict[int, list[str]] = defaultdict(list)
    for partition, event in mill.completions_by_partition(sum(map(len, asked.values()))):
        assert event.source is not None
        assert event.source.partition == partition
        offsets[partition].append(event.source.offset)
        answered[partition].append(event.request_id)
    for partition, seen in offsets.items():
        assert seen == sorted(seen), f"partition {partition}: {seen}"
    assert answered == asked, "the offsets are in order: it was asked in another"
