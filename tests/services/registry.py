"""A real Schema Registry for tests: Apicurio Registry, with Confluent's HTTP interface.

Owns its settings and its life; `registry_jars.py` gets the program. The schemas last until `stop`.
"""

import http.client
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from . import registry_jars
from .errors import ServiceError
from .kafka_node import java_command
from .ports import HOST, free_ports
from .process import ChildProcess
from .server import Server
from .versions import REGISTRY_VERSION
from .waiting import wait_until

START_DEADLINE_S = 90.0
"""It takes under 4 s on two idle cores; this is for a machine that is busy with tests."""

DEFAULT_HEAP_MB = 128

PATH = "/apis/ccompat/v7"
"""Where Apicurio has Confluent's interface; elsewhere it has its own."""

_FAST_START: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")


class SchemaRegistry(Server):
    """A Schema Registry with throw-away data, for use in a `with` or by `start` and `stop`.

    `url` stays the same from `start` to `stop`, and so do the schemas and their ids, over `kill`
    and `restart`. Compatibility is BACKWARD for every subject, as Confluent's own has it.
    """

    name = f"Apicurio Registry {REGISTRY_VERSION}"

    def __init__(self, *, heap_mb: int = DEFAULT_HEAP_MB) -> None:
        """
        Args:
            heap_mb: the JVM's largest heap, in MiB; it takes about as much again outside it.
        """
        super().__init__()
        self._heap_mb = heap_mb
        self._port = 0
        self._runner = Path()
        self._folder = Path()

    @property
    def url(self) -> str:
        """What a client takes for `registry.url`: `http://127.0.0.1:PORT/PATH`."""
        return f"http://{HOST}:{self._port}{PATH}"

    def _prepare(self) -> None:
        self._runner = registry_jars.provision()
        data = TemporaryDirectory(prefix="speechmill-registry-", ignore_cleanup_errors=True)
        self._folder = Path(self._until_stop.enter_context(data))
        [self._port] = free_ports(1)

    def _launch(self) -> None:
        folder = self._folder
        temporary = folder / "tmp"
        temporary.mkdir(exist_ok=True)
        # No environment but this: the user's own REGISTRY_ variables are for another server.
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "QUARKUS_HTTP_HOST": HOST,  # every interface by default
            "QUARKUS_HTTP_PORT": str(self._port),
            # A file, for the default is lost with the process; and each write at once, for H2
            # keeps half a second of them back.
            "REGISTRY_DATASOURCE_URL": f"jdbc:h2:file:{folder}/schemas;WRITE_DELAY=0",
            "REGISTRY_RULES_GLOBAL_COMPATIBILITY": "BACKWARD",
            "LOG_LEVEL": "WARN",
            "REGISTRY_LOG_LEVEL": "WARN",
        }
        options = [f"-Xmx{self._heap_mb}m", *_FAST_START, f"-Djava.io.tmpdir={temporary}"]
        self._child = ChildProcess(
            [java_command(), *options, "-jar", str(self._runner)],
            log=folder / "registry.log",
            environment=environment,
            folder=folder,
        )
        try:
            wait_until(self._answers, START_DEADLINE_S, "a Schema Registry that answers")
        except TimeoutError as error:
            raise ServiceError(f"{error}\n{self.log_tail()}") from error

    def _answers(self) -> bool:
        if not self.running:
            raise ServiceError(f"the registry ended\n{self.log_tail()}")
        connection = http.client.HTTPConnection(HOST, self._port, timeout=2)
        try:
            connection.request("GET", f"{PATH}/subjects")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
