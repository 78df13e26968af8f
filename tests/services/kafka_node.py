"""One broker of a `KafkaCluster`: its settings, its folder, its JVM.

A node is broker and controller at once (KRaft's combined mode). It knows its peers only as the
controllers' addresses in its settings.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from .ports import HOST, answers
from .process import ChildProcess
from .server import Server

# Warnings and worse only: a start at INFO writes thousands of lines of settings.
_LOGGING = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
"""

_FAST_START: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Half the processor time of a start, and less memory; under a long load the JVM's default is
faster."""


def java_command() -> str:
    """The JVM that brokers run on: `$JAVA_HOME`'s, else the path's."""
    java_home = os.environ.get("JAVA_HOME")
    return str(Path(java_home) / "bin" / "java") if java_home else "java"


class KafkaNode(Server):
    """A broker with its own folder and ports, both kept over `kill` and `restart`.

    `start` and `restart` return at once, before it answers.
    """

    soft_stop_deadline_s: ClassVar[float] = 20.0
    """A controlled shutdown moves the leaders away first: about a second where a quorum is left."""

    def __init__(
        self,
        number: int,
        port: int,
        controller_port: int,
        folder: Path,
        *,
        jars: Path,
        heap_mb: int,
        fast_start: bool,
        proxied: tuple[int, int] | None = None,
    ) -> None:
        """`proxied`: a second port for clients, and the one it is known by: a proxy's."""
        super().__init__()
        self.number = number
        self.port = port
        self.controller_port = controller_port
        self.folder = folder
        self._settings = folder / "server.properties"
        self._log = folder / "broker.log"
        self._jars = jars
        self._heap_mb = heap_mb
        self._fast_start = fast_start
        self._proxied = proxied

    @property
    def voter(self) -> str:
        """This node in `controller.quorum.voters`."""
        return f"{self.number}@{HOST}:{self.controller_port}"

    @property
    def accepts(self) -> bool:
        """Whether its port for clients is open; it may not be part of the cluster yet."""
        return self.running and answers(self.port)

    def configure(self, voters: str, cluster_settings: Mapping[str, str]) -> None:
        """Write its settings file."""
        self.folder.mkdir(parents=True)
        (self.folder / "log4j2.properties").write_text(_LOGGING, encoding="utf-8")
        listeners = advertised = f"PLAINTEXT://{HOST}:{self.port}"
        if self._proxied is not None:  # brokers talk to each other over the first one
            behind, before = self._proxied
            listeners += f",PROXIED://{HOST}:{behind}"
            advertised += f",PROXIED://{HOST}:{before}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": str(self.number),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{listeners},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": advertised,
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "log.dirs": str(self.folder / "data"),
            **cluster_settings,
        }
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        self._settings.write_text(text, encoding="utf-8")

    def format(self, cluster_id: str) -> ChildProcess:
        """Start `kafka-storage format`; the broker may start when it has ended."""
        main = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster_id]
        return self._java([*_FAST_START, "-Xmx128m"], [*main, "--config", "server.properties"])

    def _prepare(self) -> None:
        """Nothing: the cluster has called `configure` and `format`, and deletes the folder."""

    def _launch(self) -> None:
        options = [f"-Xmx{self._heap_mb}m", *(_FAST_START if self._fast_start else ())]
        self._child = self._java(options, ["kafka.Kafka", "server.properties"])

    def _java(self, options: list[str], main: list[str]) -> ChildProcess:
        quiet = ["-XX:-UsePerfData", "-Dlog4j2.configurationFile=log4j2.properties"]
        return ChildProcess(
            [java_command(), *options, *quiet, "-cp", f"{self._jars}/*", *main],
            log=self._log,
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            folder=self.folder,
        )
