"""One owner a slot: of two workers with one name on a machine, the second is refused.

Owns the lock file. The lock is the kernel's (flock), which ends with its holder however that ends:
what a dead holder wrote into the file is only history. Across machines the broker decides: of two
workers under one transactional id, the older is fenced.
"""

import fcntl
import hashlib
import json
import os
import socket
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from processor.errors import SettingsError

__all__ = ["Slot", "SlotTaken"]

_log = structlog.get_logger()


class SlotTaken(SettingsError):
    """Another process has the slot; the message says which, and since when."""


class Slot:
    """Held from its making until ``release``, or until the process ends."""

    def __init__(self, name: str, scope: str, folder: Path | None = None) -> None:
        """Take ``name`` within ``scope`` (the cluster and group: elsewhere the name is free).

        ``folder`` must be this machine's own; by default one in the temporary folder that only
        this user may write to. Raises SlotTaken, or SettingsError for a folder of somebody else's.
        """
        folder = folder or Path(tempfile.gettempdir()) / f"speechmill-slots-{os.getuid()}"
        _own(folder)
        digest = hashlib.sha256(f"{scope}\n{name}".encode()).hexdigest()[:32]
        self.path = folder / f"{digest}.lock"
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._read()
            os.close(self._file)
            raise SlotTaken(
                f"worker.name: {name} is held by process {holder.get('pid', '?')} on "
                f"{holder.get('host', '?')} since {holder.get('since', '?')}; "
                "stop it, or give this worker another name"
            ) from None
        if before := self._read():
            _log.info("slot taken over", name=name, left_by=before.get("pid"))
        me = {
            "name": name,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(me).encode(), 0)

    def release(self) -> None:
        """Give the slot up; the next holder need not know of us."""
        os.ftruncate(self._file, 0)
        os.close(self._file)

    def _read(self) -> dict[str, Any]:
        try:
            holder = json.loads(os.pread(self._file, 4096, 0) or b"{}")
        except ValueError:
            return {}
        return holder if isinstance(holder, dict) else {}


def _own(folder: Path) -> None:
    """Make the folder, or see that it is ours: in a shared one somebody could lock us out."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise SettingsError(f"worker.slot_dir: {folder} belongs to somebody else; name another")
