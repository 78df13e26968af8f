"""A worker's memory with a thousand requests waiting, and with a million.

Run by ``make bench``. The same worker settings, the same device, kept at it for the same time; what
differs is how much waits behind the window. Most of the million is never served: the worker is
ended first. Resident memory is the largest that was seen while it worked.
"""

import json
import sys
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Producer

from processor.kafka import create_topics
from processor.local.child import Child
from processor.local.stack import start_worker
from processor.store import MinioStore
from tests.benchmarks.drain import corner, settings_of

__all__ = ["peak_mb"]


def peak_mb(environment: dict[str, str], waiting: int, seconds: float) -> float:
    """Largest resident memory of a worker, in 10^6 bytes, while ``waiting`` requests wait."""
    name = f"memory-{uuid.uuid4().hex[:8]}"
    variables = environment | corner(name)
    settings = settings_of(variables)
    create_topics(settings.kafka, timeout_s=20.0)
    MinioStore(settings.store).ensure_bucket()
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "linger.ms": 50})
    for number in range(waiting):
        text = f"Number {number} of many that wait for their turn."
        value = json.dumps({"request_id": f"m-{number}", "text": text}).encode()
        while True:
            try:
                producer.produce(settings.kafka.requests, value=value, partition=number % 8)
            except BufferError:
                producer.poll(0.1)
            else:
                break
        producer.poll(0)
    producer.flush()
    with TemporaryDirectory() as folder:
        worker = start_worker(name, Path(folder), variables)
        try:
            return _watch(worker, seconds)
        finally:
            worker.kill()
            worker.wait(10)


def _watch(worker: Child, seconds: float) -> float:
    peak = 0.0
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        worker.check()
        peak = max(peak, _resident_mb(worker.pid))
        time.sleep(0.1)
    return peak


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    sys.exit("this system does not tell a process's memory")
