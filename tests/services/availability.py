"""Whether the test services can be had here: an absent tool skips on a laptop, and fails in CI.

Says nothing of the network: a download that fails is a `ProvisionError`.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .kafka_jars import cached_jars
from .kafka_node import java_command
from .minio_binary import cached_binary
from .registry_jars import cached_runner
from .versions import GO_MINIMUM, JAVA_MINIMUM

_ASK_DEADLINE_S = 30.0


def kafka_unavailable() -> str | None:
    """Why a `KafkaCluster` can't run here, or None."""
    return _jars_unavailable("Kafka", cached_jars())


def minio_unavailable() -> str | None:
    """Why a `MinioServer` can't run here, or None."""
    if cached_binary() is not None:
        return None
    wanted = ".".join(map(str, GO_MINIMUM))
    go = _first_line("go", "version")  # of the kind: go version go1.26.8 linux/amd64
    if go is None:
        return f"MinIO is built with Go {wanted} or newer: no go that runs"
    version = re.search(r"go(\d+)\.(\d+)", go)
    if version is None or (int(version[1]), int(version[2])) < GO_MINIMUM:
        return f"MinIO is built with Go {wanted} or newer, not: {go}"
    return None


def registry_unavailable() -> str | None:
    """Why a `SchemaRegistry` can't run here, or None."""
    return _jars_unavailable("the Schema Registry", cached_runner())


def require(reason: str | None) -> None:
    """Go on if `reason` is None; else skip the test, or fail it where `CI` is set to true."""
    if reason is None:
        return
    if in_ci():
        pytest.fail(f"{reason} (CI must have it)", pytrace=False)
    pytest.skip(reason)


def in_ci() -> bool:
    """Whether an absent service is a failure."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def _jars_unavailable(service: str, jars: Path | None) -> str | None:
    # The first line is of the kind: openjdk version "17.0.15" 2025-04-15
    java = _first_line(java_command(), "-version")
    if java is None:
        return f"{service} needs Java {JAVA_MINIMUM} or newer: no java that runs"
    version = re.search(r'version "(\d+)', java)
    if version is None or int(version[1]) < JAVA_MINIMUM:
        return f"{service} needs Java {JAVA_MINIMUM} or newer, not: {java}"
    if jars is None and shutil.which("mvn") is None:
        return f"{service}'s jars are fetched with mvn (Apache Maven): it is not installed"
    return None


def _first_line(*command: str) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_ASK_DEADLINE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout + done.stderr).partition("\n")[0]
