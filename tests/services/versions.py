"""The one place where the versions of the test services are pinned.

After a change of a Kafka version, `kafka-jars.sha256` must be written anew (`kafka_jars.py` says
how); after a change of MinIO's, `MINIO_MODULE_SUM` must, and after one of the registry's
`REGISTRY_ARCHIVE_SHA256`.
"""

from typing import Final

KAFKA_VERSION: Final = "4.4.0"
"""Runs on Java 17 and newer."""

SCALA_VERSION: Final = "2.13"
"""The one Scala that Kafka 4 is published for."""

LOG4J_VERSION: Final = "2.25.5"
"""The log4j that Kafka's own pom asks for: its SLF4J binding is not among Kafka's dependencies."""

MAVEN_DEPENDENCY_PLUGIN_VERSION: Final = "3.8.1"

REGISTRY_VERSION: Final = "2.6.13.Final"
"""The newest of the line that runs on Java 17: the distribution of 3.3 needs Java 21."""

REGISTRY_ARCHIVE_SHA256: Final = "3cda1b34aa020fb4ac4dd6a66018d757e81e437f97e20a1f92d366b70091c6ba"
"""Of `apicurio-registry-app-VERSION-all.tar.gz`."""

JAVA_MINIMUM: Final = 17
"""For Kafka and for the registry."""

MINIO_VERSION: Final = "v0.0.0-20260212201848-7aac2a2c5b7c"
"""The newest version that the Go module proxy has: the last commit of MinIO's public repository."""

MINIO_MODULE_SUM: Final = "h1:/qdoYujxF5MBLDMVLeiYJ/7fBa1HikX39Dvzb9Ji8pA="
"""What `go mod download -json` must report for that version, as in a go.sum."""

GO_MINIMUM: Final = (1, 24)
"""What MinIO's go.mod asks for."""
