"""Threads or processes for hibari? Prints both against one thread, measured in the same run.

Run it with ``make bench``. Medians of five rounds; the rounds of the ways alternate, so that a
machine whose speed drifts does not favour one.
"""

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.resources import files

from processor.engines.base import Speech, Utterance
from processor.engines.hibari import HibariEngine
from processor.segments import segment
from processor.settings import EngineSettings

ROUNDS = 5
_engine: HibariEngine | None = None


def _load() -> None:
    global _engine
    _engine = HibariEngine(EngineSettings(threads=1))
    _engine.warm_up()


def _speak(text: str) -> float:
    """Seconds of audio."""
    if _engine is None:
        raise RuntimeError("the engine is not loaded in this process")
    able = _engine.capabilities
    (result,) = _engine.synthesize([Utterance(text, able.voices[0].name, 1.0, 1)])
    return len(result.samples) / able.sample_rate if isinstance(result, Speech) else 0.0


def _timed(run: Callable[[], float]) -> float:
    """Seconds of audio per second."""
    began = time.perf_counter()
    audio = run()
    return audio / (time.perf_counter() - began)


def tight_loop(lanes: int) -> float:
    """Seconds of audio per second of the engine alone, in so many threads."""
    if _engine is None:
        _load()
    text = files("processor.local").joinpath("demo.txt").read_text("utf-8")
    sentences = [part.text for part in segment(text, "en", 300)]
    with ThreadPoolExecutor(lanes) as threads:
        return _timed(lambda: sum(threads.map(_speak, sentences)))


def main() -> None:
    lanes = os.cpu_count() or 1
    text = files("processor.local").joinpath("demo.txt").read_text("utf-8")
    sentences = [part.text for part in segment(text, "en", 300)]
    _load()
    threads: Executor = ThreadPoolExecutor(lanes)
    processes: Executor = ProcessPoolExecutor(
        lanes, mp_context=multiprocessing.get_context("spawn"), initializer=_load
    )
    ways: dict[str, Callable[[], float]] = {
        "one thread": lambda: sum(map(_speak, sentences)),
        f"{lanes} threads": lambda: sum(threads.map(_speak, sentences)),
        f"{lanes} processes": lambda: sum(processes.map(_speak, sentences, chunksize=4)),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        run()  # warm
    for _ in range(ROUNDS):
        for name, run in ways.items():
            speeds[name].append(_timed(run))
    base = statistics.median(speeds["one thread"])
    out = sys.stdout.write
    out(f"hibari, {len(sentences)} sentences, {lanes} cores, median of {ROUNDS} rounds\n")
    for name, values in speeds.items():
        median = statistics.median(values)
        out(f"{name:12}  {median:6.0f} x realtime  {median / base:5.2f} x one thread\n")
    here = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    processes.shutdown()
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    out(f"memory: {here} MB for all threads, {child} MB for each process\n")


if __name__ == "__main__":
    main()
