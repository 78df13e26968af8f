"""MinIO's server program: built once from the Go module proxy's source, checked by its sum."""

import json
import os
import shutil
from pathlib import Path

from .cache import cached, provide, run_tool
from .errors import ProvisionError
from .versions import MINIO_MODULE_SUM, MINIO_VERSION

MODULE = "github.com/minio/minio"

BUILD_DEADLINE_S = 3_600.0
"""About three minutes on two idle cores."""


def cached_binary() -> Path | None:
    """The program that an earlier run built, if one did."""
    folder = cached(_name())
    return folder / "minio" if folder else None


def provision() -> Path:
    """The path of the server program, built on the first call.

    Raises:
        ProvisionError: Go failed, or the module is not the one that was pinned.
    """
    return provide(_name(), _build) / "minio"


def _name() -> str:
    return f"minio-{MINIO_VERSION}"


def _build(folder: Path) -> None:
    if shutil.which("go") is None:
        raise ProvisionError("go is not installed")
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",  # needs no C compiler
        "GOBIN": str(folder),
        "GOFLAGS": "-mod=mod",  # whatever flags the user has set for work in a checkout
        "GOTOOLCHAIN": "local",  # download no other Go
        "GO111MODULE": "on",
        "GOWORK": "off",
    }
    target = f"{MODULE}@{MINIO_VERSION}"
    module = json.loads(
        run_tool(["go", "mod", "download", "-json", target], folder, environment, BUILD_DEADLINE_S)
    )
    if module["Sum"] != MINIO_MODULE_SUM:
        raise ProvisionError(f"{target} has the sum {module['Sum']}, not {MINIO_MODULE_SUM}")
    build = ["go", "install", "-trimpath", "-ldflags=-s -w", target]
    if nice := shutil.which("nice"):
        build = [nice, "-n", "10", *build]
    run_tool(build, folder, environment, BUILD_DEADLINE_S)
