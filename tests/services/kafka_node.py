"""One broker of a `KafkaCluster`: its settings, its folder, its JVM.

A node is broker and controller at once (KRaft's combined mode). It knows its peers only as the
controllers' addresses in its settings.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .ports import HOST, answers
from .process import ChildProcess

SOFT_STOP_DEADLINE_S = 20.0
"""A controlled shutdown moves the leaders away first: about a second where a quorum is left."""

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


class KafkaNode:
    """A broker with its own folder and ports, both kept over `kill` and `start`."""

    def __init__(self, number: int, port: int, controller_port: int, folder: Path) -> None:
        self.number = number
        self.port = port
        self.controller_port = controller_port
        self.folder = folder
        self._settings = folder / "server.properties"
        self._log = folder / "broker.log"
        self._child: ChildProcess | None = None

    @property
    def voter(self) -> str:
        """This node in `controller.quorum.voters`."""
        return f"{self.number}@{HOST}:{self.controller_port}"

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def accepts(self) -> bool:
        """Whether its port for clients is open; it may not be part of the cluster yet."""
        return self.running and answers(self.port)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def configure(self, voters: str, cluster_settings: Mapping[str, str]) -> None:
        """Write its settings file."""
        self.folder.mkdir(parents=True)
        (self.folder / "log4j2.properties").write_text(_LOGGING, encoding="utf-8")
        settings = {
            "process.roles": "broker,controller",
            "node.id": str(self.number),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            **cluster_settings,
        }
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        self._settings.write_text(text, encoding="utf-8")

    def format(self, jars: Path, cluster_id: str) -> ChildProcess:
        """Start `kafka-storage format`; the broker may start when it has ended."""
        main = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster_id]
        return self._java(
            jars, [*_FAST_START, "-Xmx128m"], [*main, "--config", "server.properties"]
        )

    def start(self, jars: Path, heap_mb: int, fast_start: bool) -> None:
        """Start its JVM, and return at once."""
        options = [f"-Xmx{heap_mb}m", *(_FAST_START if fast_start else ())]
        self._child = self._java(jars, options, ["kafka.Kafka", "server.properties"])

    def _java(self, jars: Path, options: list[str], main: list[str]) -> ChildProcess:
        quiet = ["-XX:-UsePerfData", "-Dlog4j2.configurationFile=log4j2.properties"]
        return ChildProcess(
            [java_command(), *options, *quiet, "-cp", f"{jars}/*", *main],
            log=self._log,
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            folder=self.folder,
        )

    def kill(self, hard: bool = True) -> None:
        """End it: SIGKILL, or a controlled shutdown with `SOFT_STOP_DEADLINE_S` to finish."""
        if self._child is None:
            return
        if hard:
            self._child.kill()
        else:
            self._child.terminate(SOFT_STOP_DEADLINE_S)

    def pause(self) -> None:
        """Stop it (SIGSTOP) without closing its connections."""
        if self._child is not None:
            self._child.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        if self._child is not None:
            self._child.resume()

    def log_tail(self) -> str:
        return self._child.log_tail() if self._child else ""
