"""Apache Kafka's jars: fetched once through Maven, and checked against `kafka-jars.sha256`.

To move to another version: change it in `versions.py`, run `python -m tests.services pin`, and
read what changed in the list.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from .cache import cached, provide, run_tool
from .errors import ProvisionError
from .versions import (
    KAFKA_VERSION,
    LOG4J_VERSION,
    MAVEN_DEPENDENCY_PLUGIN_VERSION,
    SCALA_VERSION,
)

MANIFEST = Path(__file__).with_name("kafka-jars.sha256")

DOWNLOAD_DEADLINE_S = 600.0

# kafka-tools-api is left out: Kafka's pom names it, but it is not published (it is an interface
# of the console tools). The SLF4J binding is added: without it a broker logs nothing.
_POM = f"""<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>speechmill.tests</groupId>
  <artifactId>kafka-broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_{SCALA_VERSION}</artifactId>
      <version>{KAFKA_VERSION}</version>
      <exclusions>
        <exclusion>
          <groupId>org.apache.kafka</groupId>
          <artifactId>kafka-tools-api</artifactId>
        </exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def cached_jars() -> Path | None:
    """The folder of jars that an earlier run fetched, if one did."""
    return cached(_name())


def provision() -> Path:
    """The folder of jars to put on a broker's class path, fetched on the first call.

    Raises:
        ProvisionError: Maven failed, or a jar is not the one that was pinned.
    """
    folder = provide(_name(), _fetch_and_verify)
    _verify(folder)
    return folder


def _name() -> str:
    # With the manifest's digest: a changed manifest is another folder.
    return f"kafka-{KAFKA_VERSION}-{hashlib.sha256(MANIFEST.read_bytes()).hexdigest()[:12]}"


def pin() -> int:
    """Fetch the jars and write the manifest from what came; returns how many there are."""
    with tempfile.TemporaryDirectory(prefix="speechmill-kafka-jars-") as folder:
        _fetch(Path(folder))
        sums = _sums(Path(folder))
    text = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    MANIFEST.write_text(text, encoding="utf-8")
    return len(sums)


def _fetch_and_verify(folder: Path) -> None:
    _fetch(folder)
    _verify(folder)


def _fetch(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise ProvisionError("mvn (Apache Maven) is not installed")
    pom = folder / "pom.xml"
    pom.write_text(_POM, encoding="utf-8")
    plugin = f"org.apache.maven.plugins:maven-dependency-plugin:{MAVEN_DEPENDENCY_PLUGIN_VERSION}"
    run_tool(
        [
            "mvn",
            "--batch-mode",
            "--no-transfer-progress",
            "--strict-checksums",
            "--file",
            str(pom),
            f"{plugin}:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={folder}",
        ],
        folder,
        os.environ,
        DOWNLOAD_DEADLINE_S,
    )


def _verify(folder: Path) -> None:
    pinned = {}
    for line in MANIFEST.read_text(encoding="utf-8").splitlines():
        digest, name = line.split(maxsplit=1)
        pinned[name] = digest
    if wrong := sorted({name for name, _ in _sums(folder).items() ^ pinned.items()}):
        raise ProvisionError(f"{folder}: not as pinned in {MANIFEST.name}: {', '.join(wrong)}")


def _sums(folder: Path) -> dict[str, str]:
    sums = {}
    for jar in folder.glob("*.jar"):
        with jar.open("rb") as stream:
            sums[jar.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return sums
