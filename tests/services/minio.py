"""A real MinIO server for tests: one process, one drive, on 127.0.0.1.

Owns its settings and its life; `minio_binary.py` gets the program. The data lasts until `stop`.
"""

import http.client
import os
import secrets
from pathlib import Path
from tempfile import TemporaryDirectory

from . import minio_binary
from .errors import ServiceError
from .ports import HOST, free_ports
from .process import ChildProcess
from .server import Server
from .versions import MINIO_VERSION
from .waiting import wait_until

START_DEADLINE_S = 60.0
"""It takes under a second on two idle cores; this is for a machine that is busy with tests."""

HEALTH_PATH = "/minio/health/cluster"
"""Answers 200 when the drive can be written; `live` and `ready` do so earlier."""


class MinioServer(Server):
    """A MinIO with throw-away data, for use in a `with` or by `start` and `stop`.

    `endpoint` (host:port, plain HTTP) stays the same from `start` to `stop`, over `kill` and
    `restart`; `access_key` and `secret_key` are the root user's, made for this object.
    """

    name = f"MinIO {MINIO_VERSION}"

    def __init__(self) -> None:
        super().__init__()
        self.access_key = f"test-{secrets.token_hex(4)}"
        self.secret_key = secrets.token_urlsafe(24)
        self._port = 0
        self._program = Path()
        self._folder = Path()

    @property
    def endpoint(self) -> str:
        """`127.0.0.1:PORT`, as minio-py's client takes it (with `secure=False`)."""
        return f"{HOST}:{self._port}"

    def _prepare(self) -> None:
        self._program = minio_binary.provision()
        data = TemporaryDirectory(prefix="speechmill-minio-", ignore_cleanup_errors=True)
        self._folder = Path(self._until_stop.enter_context(data))
        [self._port] = free_ports(1)

    def _launch(self) -> None:
        folder = self._folder
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
                str(self._program),
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
