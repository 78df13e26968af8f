"""The cache: a thing is provided once, wholly or not at all."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .cache import CACHE_VARIABLE, cache_root, cached, provide
from .errors import ProvisionError

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_lies_where_the_variable_says(root: Path) -> None:
    assert cache_root() == root


def test_it_lies_in_the_users_cache_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")

    assert cache_root() == tmp_path / "speechmill" / "test-services"


def test_only_one_of_several_at_once_fills_it() -> None:
    together = threading.Barrier(4)
    fills: list[Path] = []

    def fill(folder: Path) -> None:
        fills.append(folder)
        (folder / "whole").touch()

    def run(_: int) -> Path:
        together.wait()
        return provide("thing", fill)

    with ThreadPoolExecutor(4) as threads:
        folders = set(threads.map(run, range(4)))

    assert len(fills) == 1
    assert [(folder / "whole").exists() for folder in folders] == [True]


def test_a_failed_fill_leaves_nothing_and_the_next_may_succeed() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ProvisionError("cut off")

    with pytest.raises(ProvisionError, match="cut off"):
        provide("thing", fail)
    assert cached("thing") is None

    folder = provide("thing", lambda folder: (folder / "whole").touch())

    assert [file.name for file in folder.iterdir()] == ["whole"]
    assert cached("thing") == folder


def test_what_a_killed_run_left_is_thrown_away(root: Path) -> None:
    (root / "thing.partial").mkdir(parents=True)
    (root / "thing.partial" / "half").touch()

    folder = provide("thing", lambda folder: (folder / "whole").touch())

    assert [file.name for file in folder.iterdir()] == ["whole"]
