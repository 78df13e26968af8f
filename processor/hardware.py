"""What this machine computes with, by name."""

import platform
import sys
from pathlib import Path

from processor.settings import cores

__all__ = ["device_name", "processor_name"]


def device_name() -> str:
    """The accelerator if there is one in use, else the processor; and how many."""
    torch = sys.modules.get("torch")  # an engine that computes with it has loaded it
    if torch is not None and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {torch.cuda.device_count()}"
    return f"{processor_name()}, {cores()} cores"


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
