"""The fault suite runs on Apache Kafka and MinIO alone: see tests/integration for the fixtures."""

from tests.integration.conftest import mill, parts

__all__ = ["mill", "parts"]
