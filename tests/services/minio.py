"""A real MinIO server for tests: one process, one drive, on 127.0.0.1.

Owns its settings and its life; `minio_binary.py` gets the program. The data lasts until `stop`.
"""

import http.client
import os
import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from . import minio_binary
from .errors import ServiceError
from .ports import HOST, free_ports
from .process import ChildProcess
from .versions import MINIO_VERSION
from .waiting import wait_until

START_DEADLINE_S = 60.0
"""It takes under a second on two idle cores; this is for a machine that is busy with tests."""

SOFT_STOP_DEADLINE_S = 10.0

HEALTH_PATH = "/minio/health/cluster"
"""Answers 200 when the drive can be written; `live` and `ready` do so earlier."""


class MinioServer:
    """A MinIO with throw-away data, for use in a `with` or by `start` and `stop`.

    `endpoint` (host:port, plain HTTP) stays the same from `start` to `stop`, over `kill` and
    `restart`; `access_key` and `secret_key` are the root user's, made for this object.
    """

    name = f"MinIO {MINIO_VERSION}"

    def __init__(self) -> None:
        self.access_key = f"test-{secrets.token_hex(4)}"
        self.secret_key = secrets.token_urlsafe(24)
        self._port = 0
        self._folder: TemporaryDirectory[str] | None = None
        self._child: ChildProcess | None = None

    @property
    def endpoint(self) -> str:
        """`127.0.0.1:PORT`, as minio-py's client takes it (with `secure=False`)."""
        return f"{HOST}:{self._port}"

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Provision if need be, and start with an empty drive; returns when it is healthy.

        Raises:
            ProvisionError: MinIO can't be had.
            ServiceError: it ended, or was not healthy in time.
        """
        if self._folder is not None:
            raise ServiceError("the server was started already")
        program = minio_binary.provision()
        self._folder = TemporaryDirectory(prefix="speechmill-minio-", ignore_cleanup_errors=True)
        try:
            [self._port] = free_ports(1)
            self._launch(program, Path(self._folder.name))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill it and delete its data. Does nothing if it was not started."""
        self.kill()
        self._child = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def kill(self, hard: bool = True) -> None:
        """End it and keep its data: `hard` with SIGKILL, else by SIGTERM."""
        if self._child is None:
            return
        if hard:
            self._child.kill()
        else:
            self._child.terminate(SOFT_STOP_DEADLINE_S)

    def restart(self) -> None:
        """Start it again on its port and data, shut down first if it runs."""
        if self._folder is None:
            raise ServiceError("the server was never started")
        self.kill(hard=False)
        self._launch(minio_binary.provision(), Path(self._folder.name))

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its connections stay open, and nothing answers."""
        if self._child is not None:
            self._child.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        if self._child is not None:
            self._child.resume()

    def log_tail(self) -> str:
        """The end of what it printed."""
        return self._child.log_tail() if self._child else ""

    def _launch(self, program: Path, folder: Path) -> None:
        # No environment but this: the user's own MINIO_ variables are for another server.
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_CALLHOME_ENABLE": "off",
            # Few buffers, and deleted objects go at once: less memory and disk.
            "MINIO_CI_CD": "on",
        }
        drive = folder / "drive"
        drive.mkdir(exist_ok=True)
        self._child = ChildProcess(
            [
                str(program),
                "server",
                "--address",
                self.endpoint,
                "--certs-dir",
                str(folder / "certs"),
                str(drive),
            ],
            log=folder / "server.log",
            environment=environment,
            folder=folder,
        )
        try:
            wait_until(self._healthy, START_DEADLINE_S, "a healthy MinIO")
        except TimeoutError as error:
            raise ServiceError(f"{error}\n{self.log_tail()}") from error

    def _healthy(self) -> bool:
        if not self.running:
            raise ServiceError(f"MinIO ended\n{self.log_tail()}")
        connection = http.client.HTTPConnection(HOST, self._port, timeout=2)
        try:
            connection.request("GET", HEALTH_PATH)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
