"""The embedded parts for one run: a broker and a store that are gone with it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processor.local.stack import Stack
from processor.settings import RegistrySettings, Settings

__all__ = ["embedded"]


@contextmanager
def embedded(settings: Settings) -> Iterator[tuple[Settings, dict[str, int]]]:
    """The settings, led to embedded parts, and the process ids of these by name.

    Enter it from the main thread. Raises MissingExtra, ChildFailed, BrokerUnavailable.
    """
    folder = Path(tempfile.mkdtemp(prefix="speechmill-bench-"))
    try:
        stack = Stack(folder)
        try:
            parts = stack.settings()
            kafka = {
                name: getattr(parts.kafka, name)
                for name in ("bootstrap", "session_timeout_ms", "delivery")
            } | {"security_protocol": "PLAINTEXT", "replication": 1}
            yield (
                settings.model_copy(
                    update={
                        "kafka": settings.kafka.model_copy(update=kafka),
                        "store": parts.store,
                        "registry": RegistrySettings(),
                    }
                ),
                {"broker": stack.broker.child.pid, "store": stack.bucket.child.pid},
            )
        finally:
            stack.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
