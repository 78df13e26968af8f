"""How many segments an engine is best given at once: measured, decided, remembered.

Owns the measurement of throughput by batch size, the choice from it, and the file that keeps it for
the next start. ``best_batch`` decides and touches nothing. Knows no Kafka and no store.
"""

import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog
from pydantic import TypeAdapter

from processor.engines.base import Engine, Speech, Utterance, Voice
from processor.errors import SpeechmillError
from processor.hardware import device_name
from processor.settings import Settings

__all__ = [
    "CalibrationFailed",
    "Curve",
    "Point",
    "best_batch",
    "cache_folder",
    "calibrated",
    "chosen",
    "identity",
    "load",
    "matters",
    "measure",
    "sizes",
    "store",
]

_log = structlog.get_logger()

#: Of the best throughput; the last few percent are not worth a batch twice as large, for which
#: every segment of it waits.
_ENOUGH = 0.95
_LEAST_CALLS, _MOST_CALLS = 3, 25
#: Settings of the engine's group that do not change how fast it is at a size.
_INDIFFERENT = frozenset({"name", "max_batch", "calibrate_s", "max_wait_ms", "default_seed"})


class CalibrationFailed(SpeechmillError):
    """An engine that does not speak can't be measured; the message says what it did instead."""


@dataclass(frozen=True, slots=True)
class Point:
    """One batch size: medians of its calls."""

    batch: int
    call_s: float
    """Wall time of one call, in seconds."""
    audio_s: float
    """Audio that it made, in seconds."""
    calls: int

    @property
    def speed(self) -> float:
        """Seconds of audio per second."""
        return self.audio_s / self.call_s


@dataclass(frozen=True, slots=True)
class Curve:
    """Sizes in ascending order, and why there are no larger ones. ``cut``: because time was up."""

    points: tuple[Point, ...]
    ended: str
    cut: bool = False


def best_batch(curve: Sequence[Point]) -> int:
    """The smallest size that reaches 95 % of the best throughput. ``curve`` must not be empty."""
    best = max(point.speed for point in curve)
    return min(point.batch for point in curve if point.speed >= _ENOUGH * best)


def chosen(curve: Curve, limit: int) -> int:
    """The size to use: ``best_batch``, or ``limit`` where time was up while throughput still grew,
    so that a short budget costs no throughput."""
    found = best_batch(curve.points)
    return limit if curve.cut and found == curve.points[-1].batch else found


def sizes(limit: int) -> list[int]:
    """1, 2, 4, 8 and so on, and ``limit`` itself."""
    return [size for n in range(limit.bit_length()) if (size := 2**n) < limit] + [limit]


def measure(
    engine: Engine,
    limit: int,
    budget_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    tell: Callable[[Point], None] = lambda _: None,
) -> Curve:
    """The engine's throughput by batch size, up to ``limit`` or what it takes.

    The engine must be warm, and nobody else may use it: one call at a time. Each size has a call to
    warm up and three that count; then, while ``budget_s`` lasts, all have more in turn. A size
    whose calls would not fit into what is left is not begun, size 1 aside. It ends early at a size
    that is slower than the best, beyond what noise explains, or that does not work: out of memory,
    or any other failure of a call whose parts succeed. ``tell`` hears of each size once.

    Raises CalibrationFailed if it does not speak even one segment.
    """
    deadline = clock() + budget_s
    found: list[_Trial] = []
    ended, cut = _climb(engine, limit, deadline, clock, found, tell)
    if ended is None:
        ended, cut = "that is the largest allowed", False
    _repeat(found, deadline, clock)
    return Curve(tuple(trial.point for trial in found), ended, cut)


def _climb(
    engine: Engine,
    limit: int,
    deadline: float,
    clock: Callable[[], float],
    found: "list[_Trial]",
    tell: Callable[[Point], None],
) -> tuple[str | None, bool]:
    """Fill ``found`` with one size after the other; why it ended, and whether time was up."""
    for size in sizes(min(limit, engine.capabilities.max_batch)):
        # A batch twice as large takes at most twice as long: that is what batching is for.
        needed = (_LEAST_CALLS + 1) * 2 * found[-1].point.call_s if found else 0.0
        if found and needed > deadline - clock():
            return "time was up", True
        trial = _Trial(engine, size, clock)
        try:
            trial.call(_LEAST_CALLS)
            slower = found and trial.speed < _ENOUGH * max(before.speed for before in found)
            if slower:  # by chance, as of a busy machine? Once more, from scratch.
                trial.forget()
                trial.call(_LEAST_CALLS)
        except Exception as error:
            if not found:
                raise CalibrationFailed(f"the engine fails on one segment: {error!r}") from error
            return f"{size} at once do not work: {_reason(error)}", False
        found.append(trial)
        tell(trial.point)
        if slower and trial.speed < _ENOUGH * max(before.speed for before in found):
            return f"{size} at once are slower", False
    return None, False


def _repeat(found: "Sequence[_Trial]", deadline: float, clock: Callable[[], float]) -> None:
    """More calls of each size in turn, while there is time: a machine whose speed drifts is to
    favour none."""
    while True:
        for trial in found:
            if trial.calls == _MOST_CALLS or clock() + trial.point.call_s > deadline:
                return
            try:
                trial.call(1)
            except Exception as error:  # noqa: BLE001 - it has worked before; what is known will do
                _log.warning("calibration call failed", batch=trial.size, reason=repr(error))
                return


def calibrated(
    engine: Engine,
    limit: int,
    budget_s: float,
    *,
    settings: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """The batch size to use, at most ``limit``: as remembered, else measured now and remembered.

    An engine that takes one segment at a time is not measured. ``settings``: what changes the
    engine's speed beside the machine (see ``matters``). Takes up to ``budget_s`` seconds and some
    calls. Raises CalibrationFailed.
    """
    limit = min(limit, engine.capabilities.max_batch)
    if limit == 1:
        return 1
    known = identity(engine, limit, settings or {})
    curve = load(known, folder)
    if curve is None:
        curve = measure(engine, limit, budget_s, clock=clock)
        store(known, curve, folder)
        _log.info("calibrated", batch=chosen(curve, limit), limit=limit, ended=curve.ended)
    return chosen(curve, limit)


# -- what it depends on, and the file --------------------------------------------------------------


def identity(engine: Engine, limit: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that the curve depends on; plain data."""
    able = engine.capabilities
    return {
        "engine": able.engine,
        "revision": able.revision,
        "device": device_name(),
        "limit": limit,
        "settings": dict(settings),
    }


def matters(settings: Settings) -> dict[str, Any]:
    """The settings that change the speed of the engine that they name."""
    common = settings.engine.model_dump(mode="json", exclude=set(_INDIFFERENT))
    own = getattr(settings, settings.engine.name, None)
    return common | ({} if own is None else own.model_dump(mode="json"))


def cache_folder() -> Path:
    """Where curves are kept: ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says that a relative path there is to be ignored.
    base = Path(root) if Path(root).is_absolute() else Path.home() / ".cache"
    return base / "speechmill" / "calibration"


def load(known: Mapping[str, Any], folder: Path | None = None) -> Curve | None:
    """The curve that was stored for exactly this; None if there is none that can be read."""
    try:
        kept = json.loads(_path(known, folder).read_bytes())
        curve = _CURVE.validate_python(kept["curve"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    sound = all(point.batch > 0 and point.call_s > 0 for point in curve.points)
    return curve if kept["of"] == _plain(known) and curve.points and sound else None


def store(known: Mapping[str, Any], curve: Curve, folder: Path | None = None) -> None:
    """Keep a curve for the next start, all of it or nothing. A folder that can't be written costs
    the next start a measurement, and this one a warning."""
    path = _path(known, folder)
    text = json.dumps({"of": _plain(known), "curve": asdict(curve)}, indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=path.stem, suffix=".new", delete=False
        ) as new:
            new.write(text)
        Path(new.name).replace(path)
    except OSError as error:
        _log.warning("calibration not kept", path=str(path), reason=str(error))


_CURVE: TypeAdapter[Curve] = TypeAdapter(Curve)


def _path(known: Mapping[str, Any], folder: Path | None) -> Path:
    digest = hashlib.sha256(json.dumps(_plain(known), sort_keys=True).encode()).hexdigest()
    name = "".join(char if char.isalnum() else "_" for char in str(known.get("engine", "")))
    return (folder or cache_folder()) / f"{name}-{digest[:16]}.json"


def _plain(known: Mapping[str, Any]) -> Any:
    """As it comes back from the file."""
    return json.loads(json.dumps(dict(known)))


# -- calls -----------------------------------------------------------------------------------------


class _Trial:
    """One size and its calls so far."""

    def __init__(self, engine: Engine, size: int, clock: Callable[[], float]) -> None:
        self.size = size
        self._engine = engine
        self._clock = clock
        self._batches = _batches(engine.capabilities.voices[0], size)
        self._seconds: list[float] = []
        self._audio: list[float] = []
        self._warm = False

    @property
    def calls(self) -> int:
        return len(self._seconds)

    @property
    def speed(self) -> float:
        return self.point.speed

    @property
    def point(self) -> Point:
        # A clock that is too coarse for the call must not divide by zero.
        call_s = max(statistics.median(self._seconds), 1e-9)
        return Point(self.size, call_s, statistics.median(self._audio), self.calls)

    def forget(self) -> None:
        """What was measured so far does not count."""
        self._seconds.clear()
        self._audio.clear()

    def call(self, times: int) -> None:
        """So many calls that count, and before the first one more to warm up."""
        if not self._warm:
            _call(self._engine, next(self._batches), self._clock)
            self._warm = True
        for _ in range(times):
            seconds, audio = _call(self._engine, next(self._batches), self._clock)
            self._seconds.append(seconds)
            self._audio.append(audio)


def _call(
    engine: Engine, batch: Sequence[Utterance], clock: Callable[[], float]
) -> tuple[float, float]:
    """Seconds that a call took, and seconds of audio that it made."""
    began = clock()
    results = engine.synthesize(batch)
    took = clock() - began
    spoken = [len(result.samples) for result in results if isinstance(result, Speech)]
    if len(spoken) < len(batch) or not all(spoken):
        refused = next((result for result in results if not isinstance(result, Speech)), None)
        raise CalibrationFailed(
            f"{len(batch) - len(spoken)} of {len(batch)} segments were not spoken"
            + (f": {refused.message}" if refused else "")
        )
    return took, sum(spoken) / engine.capabilities.sample_rate


def _batches(voice: Voice, size: int) -> Iterator[list[Utterance]]:
    """Batches of typical segments: of similar lengths, as the batcher makes them. Without end."""
    texts = _TEXTS.get(voice.language.split("-")[0].lower(), _TEXTS["en"])
    number = 0
    while True:
        yield [
            Utterance(texts[(number + n) % len(texts)], voice.name, 1.0, seed=number + n)
            for n in range(size)
        ]
        number += size


def _reason(error: Exception) -> str:
    # torch's OutOfMemoryError is no MemoryError.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory"
    return repr(error)[:200]


#: Sentences of the usual length, by language; engines of other languages read the English ones.
_TEXTS = {
    "en": (
        "The ship left the harbour before the sun was up, and nobody on the quay saw it go.",
        "She wrote the address on a piece of paper and put it under the clock in the hall.",
        "Most of the visitors come in spring, when the old orchard behind the house is white.",
        "He said that the bridge had been closed since Monday, so they took the longer road.",
        "There are three rooms on the upper floor, and the largest looks over the market square.",
        "When the rain had stopped, the children ran down to the river to look at the water.",
        "The report names four reasons for the delay, and not one of them will surprise you.",
        "You can leave the key with the woman next door; she is at home until seven o'clock.",
    ),
    "zh": (
        "太阳还没有升起的时候,那条船就离开了港口,码头上没有人看见它。",
        "她把地址写在一张纸上,放在大厅里的那座旧钟下面。",
        "大部分客人在春天来,那时候房子后面的果园开满了白色的花。",
        "他说那座桥从星期一起就关了,所以他们走了比较远的那条路。",
    ),
}
