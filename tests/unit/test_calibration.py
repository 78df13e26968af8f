"""How many segments an engine is given at once: the choice, the measurement, the memory of it."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from processor.calibration import (
    CalibrationFailed,
    Curve,
    Point,
    best_batch,
    cache_folder,
    calibrated,
    chosen,
    identity,
    load,
    matters,
    measure,
    sizes,
    store,
)
from processor.engines.base import Capabilities, Speech, Utterance, Voice
from processor.errors import Code, RequestError, Stage
from processor.settings import Settings

pytestmark = pytest.mark.unit


class TimedEngine:
    """An engine on a clock of its own: each call takes what ``seconds`` says of its size."""

    def __init__(self, seconds: Callable[[int], float], max_batch: int = 64) -> None:
        self.now = 0.0
        self.calls: list[int] = []
        self._seconds = seconds
        self.capabilities = Capabilities(
            engine="timed",
            revision="1",
            sample_rate=1000,
            voices=(Voice("one", "en-GB", "1"),),
            speeds=(1.0, 1.0),
            max_segment_characters=400,
            lanes=1,
            max_batch=max_batch,
        )

    def clock(self) -> float:
        return self.now

    def warm_up(self) -> None: ...

    def check(self, text: str) -> None: ...

    def close(self) -> None: ...

    def synthesize(self, batch: Sequence[Utterance]) -> list[Speech | RequestError]:
        self.calls.append(len(batch))
        self.now += self._seconds(len(batch))
        return [Speech(np.ones(1000, np.float32)) for _ in batch]


def device(base: float, item: float) -> Callable[[int], float]:
    return lambda size: base + item * size


points = st.lists(
    st.builds(Point, st.integers(1, 256), st.floats(0.001, 100), st.floats(0.1, 1000), st.just(3)),
    min_size=1,
    max_size=10,
    unique_by=lambda point: point.batch,
)


@given(points)
def test_the_best_batch_is_measured_and_nearly_the_fastest(curve: list[Point]) -> None:
    found = next(point for point in curve if point.batch == best_batch(curve))
    fastest = max(point.speed for point in curve)

    assert found.speed >= 0.95 * fastest
    assert all(point.speed < 0.95 * fastest for point in curve if point.batch < found.batch)


@given(points, st.randoms())
def test_the_order_of_a_curve_does_not_matter(curve: list[Point], dice: object) -> None:
    shuffled = list(curve)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]

    assert best_batch(shuffled) == best_batch(curve)


@given(points, st.integers(257, 512))
def test_a_slower_point_changes_nothing(curve: list[Point], larger: int) -> None:
    slowest = min(curve, key=lambda point: point.speed)
    assume(slowest.speed < 0.9 * max(point.speed for point in curve))

    more = [*curve, Point(larger, slowest.call_s, slowest.audio_s, 3)]
    assert best_batch(more) == best_batch(curve)


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])]
)
def test_sizes_double_up_to_the_limit(limit: int, expected: list[int]) -> None:
    assert sizes(limit) == expected


@given(st.integers(1, 1024))
def test_the_limit_is_the_last_size(limit: int) -> None:
    found = sizes(limit)

    assert found[-1] == limit
    assert found == sorted(set(found))


def test_every_size_has_a_warm_up_and_three_calls() -> None:
    engine = TimedEngine(device(0.18, 0.015))
    curve = measure(engine, 16, 10.0, clock=engine.clock)

    assert [point.batch for point in curve.points] == [1, 2, 4, 8, 16]
    assert engine.calls[:8] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert all(point.calls >= 3 for point in curve.points)
    assert [engine.calls.count(point.batch) for point in curve.points] == [
        point.calls + 1 for point in curve.points
    ]
    assert best_batch(curve.points) == 16
    assert not curve.cut
    assert engine.now <= 10.0


def test_an_engine_that_gains_nothing_from_batches_gets_none() -> None:
    engine = TimedEngine(device(0.0, 0.1))
    curve = measure(engine, 16, 60.0, clock=engine.clock)

    assert best_batch(curve.points) == 1


def test_it_ends_where_a_larger_batch_is_slower() -> None:
    engine = TimedEngine(lambda size: 0.1 * size if size <= 4 else 0.2 * size)
    curve = measure(engine, 64, 600.0, clock=engine.clock)

    assert [point.batch for point in curve.points] == [1, 2, 4, 8]
    assert "slower" in curve.ended
    assert 16 not in engine.calls


def test_one_slow_spell_does_not_end_it() -> None:
    slow = itertools.chain([1.0, 4.0, 4.0, 4.0], itertools.repeat(1.0))
    engine = TimedEngine(lambda size: 0.1 * (next(slow) if size == 2 else 1.0))
    curve = measure(engine, 8, 600.0, clock=engine.clock)

    assert [point.batch for point in curve.points] == [1, 2, 4, 8]


@pytest.mark.parametrize("error", [MemoryError("full"), RuntimeError("device-side assert")])
def test_what_does_not_work_ends_it_at_the_largest_that_does(error: Exception) -> None:
    def seconds(size: int) -> float:
        if size > 4:
            raise error
        return 0.1

    engine = TimedEngine(seconds)
    curve = measure(engine, 64, 60.0, clock=engine.clock)

    assert best_batch(curve.points) == 4
    assert "8 at once do not work" in curve.ended
    assert ("out of memory" in curve.ended) == isinstance(error, MemoryError)


def test_time_is_kept_and_a_curve_cut_short_costs_no_throughput() -> None:
    engine = TimedEngine(device(0.18, 0.015))
    curve = measure(engine, 64, 3.0, clock=engine.clock)

    assert curve.cut
    assert engine.now <= 3.0
    assert curve.points[-1].batch < 64
    assert chosen(curve, 64) == 64


def test_a_curve_cut_short_where_it_is_flat_is_enough() -> None:
    flat = tuple(Point(size, 0.1 * size, float(size), 3) for size in (1, 2, 4))

    assert chosen(Curve(flat, "time was up", cut=True), 64) == 1
    assert chosen(Curve(flat, "that is the largest allowed"), 64) == 1


def test_without_any_time_one_segment_is_measured() -> None:
    engine = TimedEngine(device(1.0, 0.0))
    curve = measure(engine, 8, 0.0, clock=engine.clock)

    assert [(point.batch, point.calls) for point in curve.points] == [(1, 3)]


def test_an_engine_that_does_not_speak_is_an_error() -> None:
    class Mute(TimedEngine):
        def synthesize(self, batch: Sequence[Utterance]) -> list[Speech | RequestError]:
            refusal = RequestError(Code.UNSUPPORTED_TEXT, "no sounds", stage=Stage.SYNTHESIS)
            return [refusal for _ in batch]

    with pytest.raises(CalibrationFailed, match="no sounds"):
        measure(Mute(device(0.1, 0)), 8, 1.0)


# -- the memory of it ------------------------------------------------------------------------------

CURVE = Curve((Point(1, 0.2, 5.0, 3), Point(2, 0.25, 10.0, 3)), "that is the largest allowed")


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    known = {"engine": "e/../x", "limit": 2, "settings": {"words": ("a", "b")}}
    store(known, CURVE, tmp_path / "made")

    assert load(known, tmp_path / "made") == CURVE
    assert load(known | {"limit": 4}, tmp_path / "made") is None
    (file,) = (tmp_path / "made").iterdir()
    assert file.suffix == ".json"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"\xff", b'{"of": {}}',
        b'{"of": {"engine": "e"}, "curve": {"points": [], "ended": ""}}',
        b'{"of": {"engine": "e"}, "curve": {"ended": "", "points": '
        b'[{"batch": 1, "call_s": 0, "audio_s": 1, "calls": 3}]}}',
    ],
)  # fmt: skip
def test_a_file_that_can_not_be_read_is_no_curve(tmp_path: Path, content: bytes) -> None:
    known = {"engine": "e"}
    store(known, CURVE, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)

    assert load(known, tmp_path) is None


def test_a_file_of_something_else_is_not_believed(tmp_path: Path) -> None:
    known = {"engine": "e"}
    store(known, CURVE, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"of": {"engine": "f"}}))

    assert load(known, tmp_path) is None


def test_a_folder_that_can_not_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store({"engine": "e"}, CURVE, tmp_path / "file" / "below")


def test_the_second_start_measures_nothing(tmp_path: Path) -> None:
    first, second = (TimedEngine(device(0.18, 0.015), max_batch=8) for _ in range(2))

    assert calibrated(first, 64, 9.0, folder=tmp_path, clock=first.clock) == 8
    assert first.calls
    assert calibrated(second, 64, 9.0, folder=tmp_path, clock=second.clock) == 8
    assert second.calls == []
    others = {"threads": 4}
    assert calibrated(second, 64, 9.0, settings=others, folder=tmp_path, clock=second.clock) == 8
    assert second.calls != []


def test_an_engine_without_batches_is_not_measured(tmp_path: Path) -> None:
    engine = TimedEngine(device(1, 0), max_batch=1)

    assert calibrated(engine, 64, 1.0, folder=tmp_path) == 1
    assert engine.calls == []
    assert list(tmp_path.iterdir()) == []


def test_it_depends_on_engine_device_and_settings() -> None:
    engine = TimedEngine(device(1, 0))
    settings = Settings.model_validate({"engine": {"name": "simulated", "threads": 3}})
    known = identity(engine, 16, matters(settings))

    assert known["engine"] == "timed"
    assert "cores" in known["device"]
    assert known["settings"]["threads"] == 3
    assert known["settings"]["base_ms"] == 180.0
    assert "max_wait_ms" not in known["settings"]


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "speechmill" / "calibration"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "speechmill" / "calibration"
