"""Ours against what people write instead: the same topic of requests, the same device.

Run by ``make bench``. Each round gives every way a full topic of its own, one after the other, and
counts the completions that a reader of committed records sees, from the first batch to the last.
"""

import os
import statistics
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, Producer, TopicPartition

from processor.bench.plan import Lengths
from processor.bench.texts import synthetic
from processor.codec import Codec
from processor.kafka import create_topics
from processor.local.child import Child
from processor.local.stack import start_worker
from processor.settings import Settings, load
from processor.store import MinioStore
from producers.client import make_request
from tests.waiting import eventually

__all__ = ["Way", "compare", "corner", "settings_of"]


@dataclass(frozen=True)
class Way:
    """A name, and how many requests a round of it has."""

    name: str
    requests: int


def compare(
    services: dict[str, str], device: dict[str, str], ways: list[Way], rounds: int
) -> dict[str, float]:
    """Requests a second of each way: medians of ``rounds``, which alternate."""
    rates: dict[str, list[float]] = {way.name: [] for way in ways}
    with TemporaryDirectory() as folder:
        for number in range(rounds):
            for way in ways:
                rate = _round(services | device, way, Path(folder) / f"{way.name}-{number}")
                rates[way.name].append(rate)
                sys.stderr.write(f"  {way.name}: {rate:.2f} requests/s\n")
    return {name: statistics.median(found) for name, found in rates.items()}


def _round(environment: dict[str, str], way: Way, folder: Path) -> float:
    folder.mkdir()
    name = f"drain-{uuid.uuid4().hex[:8]}"
    variables = environment | corner(name)
    settings = settings_of(variables)
    create_topics(settings.kafka, timeout_s=20.0)
    MinioStore(settings.store).ensure_bucket()
    _fill(settings, way.requests)
    if way.name == "speechmill":
        child = start_worker(name, folder, variables)
    else:
        child = Child(
            way.name,
            [sys.executable, "-m", "tests.benchmarks.baselines", way.name],
            folder / "log",
            variables,
        )
    try:
        return _rate(settings, way.requests, child)
    finally:
        child.stop()


def corner(name: str) -> dict[str, str]:
    """The variables that lead to topics, a group and a bucket of one's own."""
    return {
        "SPEECHMILL_KAFKA__REQUESTS": f"{name}-requests",
        "SPEECHMILL_KAFKA__PRIORITY": f"{name}-priority",
        "SPEECHMILL_KAFKA__COMPLETIONS": f"{name}-completions",
        "SPEECHMILL_KAFKA__DEADLETTERS": f"{name}-deadletters",
        "SPEECHMILL_KAFKA__GROUP": name,
        "SPEECHMILL_STORE__BUCKET": name,
    }


def settings_of(variables: dict[str, str]) -> Settings:
    """The settings that a process with these variables has."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        return load()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _fill(settings: Settings, count: int) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
    texts = synthetic(Lengths(median=50, spread=1), seed=1)
    for number, text in zip(range(count), texts, strict=False):
        # One sentence each: the baselines know nothing of sentences.
        request = make_request(f"{number} " + text.replace(".", "").replace("?", ""))
        value = Codec().encode(request, topic=settings.kafka.requests)
        producer.produce(settings.kafka.requests, value=value, partition=number % 8)
        producer.poll(0)
    producer.flush()


def _rate(settings: Settings, count: int, child: Child) -> float:
    """Completions a second, without the first fifth: joining the group and warming up."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap,
            "group.id": "drain",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    partitions = range(settings.kafka.partitions)
    consumer.assign([TopicPartition(settings.kafka.completions, n, 0) for n in partitions])
    seen: list[float] = []

    def all_seen() -> bool:
        child.check()
        found = [m for m in consumer.consume(count, 0.02) if m.error() is None]
        seen.extend([time.monotonic()] * len(found))
        return len(seen) >= count

    try:
        eventually(all_seen, f"{count} completions", 300)
    finally:
        consumer.close()
    first = count // 5
    # From the end of one batch to the end of another: what came at that moment is not counted.
    counted = sum(moment > seen[first] for moment in seen)
    return counted / (seen[-1] - seen[first])
