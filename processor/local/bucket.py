"""The embedded object store: localbucket. Each object is a plain file that a person can open."""

import sys
import time
from importlib.util import find_spec
from pathlib import Path

from processor.errors import MissingExtra, StoreUnavailable
from processor.local.child import Child, free_port
from processor.settings import StoreSettings
from processor.store import MinioStore

__all__ = ["EmbeddedBucket"]

_START_S = 20.0


class EmbeddedBucket:
    """One S3 endpoint on a free loopback port, over a folder. It asks for no credentials."""

    def __init__(self, folder: Path) -> None:
        if find_spec("localbucket") is None:
            raise MissingExtra("the embedded object store", "local")
        self.root = folder / "buckets"
        self.root.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self.child = Child(
            "object store",
            [sys.executable, "-m", "localbucket", str(self.root), "--port", str(port)],
            folder / "bucket.log",
        )

    def wait_ready(self) -> None:
        """Return once it answers and the default bucket is there."""
        store = MinioStore(StoreSettings(endpoint=self.endpoint, timeout_s=2.0))
        deadline = time.monotonic() + _START_S
        while True:
            self.child.check()
            try:
                store.ensure_bucket()
                return
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
                self.child.wait(0.05)

    def stop(self) -> None:
        self.child.stop()
