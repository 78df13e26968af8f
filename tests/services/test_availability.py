"""An absent tool skips on a laptop and fails in CI."""

from pathlib import Path

import pytest

from .availability import kafka_unavailable, minio_unavailable, require
from .cache import CACHE_VARIABLE

pytestmark = pytest.mark.unit


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with no tools and nothing provisioned."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def test_nothing_happens_without_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    require(None)


def test_a_reason_skips_on_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match="no java"):
        require("no java")


def test_a_reason_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="no java"):
        require("no java")


def test_absent_tools_are_named(bare: None) -> None:
    assert "Java" in (kafka_unavailable() or "")
    assert "Go" in (minio_unavailable() or "")
