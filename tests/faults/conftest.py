"""The fault suite runs on Apache Kafka and MinIO alone: the embedded broker promises nothing."""

from collections.abc import Iterator

import pytest

from tests.integration.conftest import REAL, mill, provide
from tests.integration.mill import Parts

__all__ = ["mill", "parts"]


@pytest.fixture(scope="session", params=[REAL])
def parts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Parts]:
    yield from provide(request.param, tmp_path_factory)
