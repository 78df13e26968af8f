"""Apicurio Registry's distribution: fetched once through Maven, checked by its pinned SHA-256.

To move to another version: change it and its sum in `versions.py`.
"""

import hashlib
import os
import shutil
from pathlib import Path

from .cache import cached, provide, run_tool
from .errors import ProvisionError
from .versions import (
    MAVEN_DEPENDENCY_PLUGIN_VERSION,
    REGISTRY_ARCHIVE_SHA256,
    REGISTRY_VERSION,
)

DOWNLOAD_DEADLINE_S = 600.0
"""About ten seconds where Maven Central is near: it is one archive of 142 MB."""

_ARTIFACT = "apicurio-registry-app"
_RUNNER = f"{_ARTIFACT}-{REGISTRY_VERSION}-runner.jar"


def cached_runner() -> Path | None:
    """The program that an earlier run fetched, if one did."""
    folder = cached(_name())
    return folder / _RUNNER if folder else None


def provision() -> Path:
    """The jar to run; it finds the others beside it, in `lib`. Fetched on the first call.

    Raises:
        ProvisionError: Maven failed, or the archive is not the one that was pinned.
    """
    return provide(_name(), _fetch) / _RUNNER


def _name() -> str:
    return f"apicurio-registry-{REGISTRY_VERSION}-{REGISTRY_ARCHIVE_SHA256[:12]}"


def _fetch(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise ProvisionError("mvn (Apache Maven) is not installed")
    plugin = f"org.apache.maven.plugins:maven-dependency-plugin:{MAVEN_DEPENDENCY_PLUGIN_VERSION}"
    run_tool(
        [
            "mvn",
            "--batch-mode",
            "--no-transfer-progress",
            "--strict-checksums",
            f"{plugin}:copy",
            f"-Dartifact=io.apicurio:{_ARTIFACT}:{REGISTRY_VERSION}:tar.gz:all",
            f"-DoutputDirectory={folder}",
        ],
        folder,
        os.environ,
        DOWNLOAD_DEADLINE_S,
    )
    archive = folder / f"{_ARTIFACT}-{REGISTRY_VERSION}-all.tar.gz"
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != REGISTRY_ARCHIVE_SHA256:
        raise ProvisionError(f"{archive.name} has the sum {digest}, not {REGISTRY_ARCHIVE_SHA256}")
    shutil.unpack_archive(archive, folder)
    archive.unlink()
