"""What the figures were measured on, and what processes beside ours cost. Linux knows it all;
elsewhere some stay open."""

import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import confluent_kafka

from processor.hardware import processor_name
from processor.settings import cores

__all__ = ["Machine", "cpu_seconds", "describe"]

_PACKAGES = ("speechmill", "confluent-kafka", "fastavro", "minio", "numpy", "soundfile")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run took place. ``load_before`` is the load average of the last minute: on a machine
    that others use as well, every figure is too low."""

    processor: str
    cores: int
    memory_gb: float | None
    system: str
    python: str
    load_before: float | None
    versions: dict[str, str] = field(default_factory=dict)


def describe() -> Machine:
    return Machine(
        processor=processor_name(),
        cores=cores(),
        memory_gb=_memory_gb(),
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        load_before=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        versions={name: version(name) for name in _PACKAGES}
        | {"librdkafka": str(confluent_kafka.libversion()[0])},
    )


def cpu_seconds(pid: int) -> float | None:
    """Processor time that a process has used; None where it can't be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in brackets, may hold spaces; utime and stime are fields 14 and 15 (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError):
        return None
