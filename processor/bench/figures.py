"""What was seen in a run, to figures. Pure: reads no clock, asks nobody."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processor.bench.answers import Answer
from processor.bench.machine import Machine
from processor.bench.page import Page
from processor.bench.result import Cpu, Device, Moment, Result, Spread, WorkerFigures

__all__ = ["Seen", "figures"]

_Numbers = NDArray[np.floating[Any]]

#: Points of a series, at most: more than a plot can show.
_MOMENTS = 300
_LEAST_STEP_S = 1.0
_BUSY_S = 5.0
_PERCENTILES = (*range(100), 99.5, 99.9, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One run, as it was recorded. Times are on one monotonic clock, in seconds."""

    run: str
    began: datetime
    parameters: dict[str, Any]
    machine: Machine
    paced: bool
    """Whether requests came at a rate, and so latency says something about the workers."""
    start: float
    end: float
    due: list[float]
    sent: list[float]
    urgent: set[int]
    answers: list[Answer]
    """All of them, in the order in which they were seen."""
    counted: list[Answer]
    """Those that count."""
    repeated: int
    before: dict[str, Page]
    after: dict[str, Page]
    pages: dict[str, list[Page]]
    """The workers' metrics: at the window's ends, and all that was read."""
    cores: dict[str, float]
    """Processors that processes beside the workers used on average."""


def figures(seen: Seen) -> Result:
    """All figures of a run. ``seen.counted`` must not be empty."""
    counted, seconds = seen.counted, max(seen.end - seen.start, 1e-9)
    audio_s = sum(answer.audio_s for answer in counted)
    spoken = [answer for answer in counted if not answer.cache_hit and answer.audio_s > 0]
    spoken_s = sum(answer.audio_s for answer in spoken)
    usual = [_latency(seen, answer) for answer in counted if answer.number not in seen.urgent]
    urgent = [_latency(seen, answer) for answer in counted if answer.number in seen.urgent]
    late = [seen.sent[answer.number] - seen.due[answer.number] for answer in counted]
    added = {name: page.since(seen.before[name]) for name, page in seen.after.items()}
    return Result(
        run=seen.run,
        began=seen.began,
        parameters=seen.parameters,
        machine=seen.machine,
        window_s=seconds,
        requests=len(counted),
        statuses=dict(Counter(answer.status for answer in counted)),
        codes=dict(Counter(answer.code for answer in counted if answer.code)),
        repeated=seen.repeated,
        cache_hits=sum(answer.cache_hit for answer in counted),
        uncounted=sum(answer.at <= seen.start for answer in seen.answers),
        requests_per_s=len(counted) / seconds,
        characters=sum(answer.characters for answer in counted),
        audio_s=audio_s,
        audio_per_s=audio_s / seconds,
        rtf=sum(answer.compute_s for answer in spoken) / spoken_s if spoken_s else None,
        latency_s=Spread.of(usual),
        latency_curve=_curve(usual),
        urgent_latency_s=Spread.of(urgent),
        sender_late_s=Spread.of(late) if seen.paced else None,
        queued_s=Spread.of([answer.queued_s for answer in spoken]),
        synthesis_s=Spread.of([answer.synthesis_s for answer in spoken]),
        upload_s=Spread.of([answer.upload_s for answer in spoken]),
        device=_device(list(added.values()), [_lanes(page) for page in seen.after.values()]),
        cpu=_cpu(added, seen.cores),
        workers=[_worker(name, page, seen.pages[name]) for name, page in added.items()],
        series=_series(seen),
    )


def _latency(seen: Seen, answer: Answer) -> float:
    return answer.at - seen.due[answer.number]


def _curve(values: list[float]) -> list[tuple[float, float]]:
    if not values:
        return []
    found = np.percentile(values, _PERCENTILES)
    return [(float(p), float(value)) for p, value in zip(_PERCENTILES, found, strict=True)]


def _device(pages: list[Page], lanes: list[int]) -> Device | None:
    calls = sum(page.value("batch_size_count") for page in pages)
    if not calls:
        return None
    room = sum(page.at * count for page, count in zip(pages, lanes, strict=True))
    audio = sum(page.value("audio_seconds_total") for page in pages)
    padded = sum(page.value("padded_audio_seconds_total") for page in pages)
    return Device(
        lanes=sum(lanes),
        busy_share=sum(page.busy_s for page in pages) / room,
        audio_per_s=sum(page.value("audio_seconds_total") / page.at for page in pages),
        calls=round(calls),
        call_s=sum(page.value("batch_seconds_sum") for page in pages) / calls,
        batch_mean=sum(page.value("batch_size_sum") for page in pages) / calls,
        batch_sizes=_bins(pages),
        padding_share=1 - audio / padded if padded else 0.0,
        splits=round(sum(page.value("batches_split_total") for page in pages)),
    )


def _bins(pages: Iterable[Page]) -> list[tuple[int, int]]:
    """A histogram's cumulative counts as counts of their own."""
    below: dict[float, int] = defaultdict(int)
    for page in pages:
        for label, calls in page.labelled("batch_size_bucket", "le").items():
            below[float(label)] += round(calls)
    bins, largest, so_far = [], 0, 0
    for bound, count in sorted(below.items()):
        largest = int(bound) if math.isfinite(bound) else largest
        if count > so_far:
            bins.append((largest, count - so_far))
        so_far = count
    return bins


def _cpu(added: Mapping[str, Page], cores: Mapping[str, float]) -> Cpu | None:
    requests = sum(_requests(page) for page in added.values())
    if not requests:
        return None
    stages: dict[str, float] = defaultdict(float)
    for page in added.values():
        for stage, seconds in page.labelled("stage_cpu_seconds_total", "stage").items():
            stages[stage] += seconds
    total = sum(_cpu_seconds(page) for page in added.values())
    per_request = {name: value / requests * 1000 for name, value in sorted(stages.items())}
    used = {name: _cpu_seconds(page) / page.at for name, page in added.items()}
    return Cpu(
        stages_ms=per_request,
        other_ms=max(0.0, total / requests * 1000 - sum(per_request.values())),
        total_ms=total / requests * 1000,
        cores=used | dict(cores),
    )


def _worker(name: str, added: Page, pages: list[Page]) -> WorkerFigures:
    memory = max(page.values.get("process_resident_memory_bytes", 0.0) for page in pages)
    return WorkerFigures(
        name=name,
        requests=round(_requests(added)),
        busy_share=added.busy_s / (added.at * _lanes(pages[-1])),
        audio_s=added.value("audio_seconds_total"),
        memory_mb=memory / 1e6 if memory else None,
    )


def _series(seen: Seen) -> list[Moment]:
    first = min([*seen.due[:1], seen.start])
    step = max(_LEAST_STEP_S, (seen.end - first) / _MOMENTS)
    # From the window's beginning on, and backwards from it: its edge is an edge of a step.
    steps_before = int((seen.start - first) / step)
    steps = max(1, round((seen.end - seen.start) / step))
    edges = np.arange(-steps_before, steps + 1) * step + seen.start

    at = np.array([answer.at for answer in seen.answers])
    audio = np.array([answer.audio_s for answer in seen.answers])
    known = {answer.number: answer.audio_s for answer in seen.answers}
    # What was not answered before the run ended is taken to be as long as the rest, on average.
    usual = float(audio.mean()) if len(audio) else 0.0
    asked = np.array([known.get(number, usual) for number in range(len(seen.due))])
    due = np.array(seen.due)

    answered, answered_audio = _until(edges, at), _until(edges, at, audio)
    lag = _until(edges, due) - answered
    lag_audio = _until(edges, due, asked) - answered_audio
    busy = _busy(seen.pages.values(), edges)
    return [
        Moment(
            at=float(edges[n] - seen.start),
            requests_per_s=float((answered[n] - answered[n - 1]) / step),
            audio_per_s=float((answered_audio[n] - answered_audio[n - 1]) / step),
            lag_requests=round(float(lag[n])),
            lag_audio_s=max(0.0, float(lag_audio[n])),
            busy_share=None if busy is None else float(busy[n - 1]),
        )
        for n in range(1, len(edges))
    ]


def _until(edges: _Numbers, at: _Numbers, what: _Numbers | None = None) -> _Numbers:
    """At each edge, the sum of ``what`` (of ones) of all that came until then."""
    order = np.argsort(at, kind="stable")
    sums = np.concatenate(([0.0], np.cumsum(np.ones(len(at)) if what is None else what[order])))
    found: _Numbers = sums[np.searchsorted(at[order], edges, side="right")]
    return found


def _busy(pages: Iterable[list[Page]], edges: _Numbers) -> _Numbers | None:
    """The devices' busy share within the seconds before each edge but the first.

    Between two readings it is taken to be even; over some seconds, as a call counts when it ends.
    """
    busy = np.zeros(len(edges) - 1)
    lanes = 0
    for readings in pages:
        moments = [page.at for page in readings]
        before = np.maximum(edges[1:] - _BUSY_S, edges[0])
        spent = [page.busy_s for page in readings]
        added = np.interp(edges[1:], moments, spent) - np.interp(before, moments, spent)
        busy += added / (edges[1:] - before)
        lanes += _lanes(readings[-1])
    return busy / lanes if lanes else None


def _lanes(page: Page) -> int:
    return max(1, round(page.value("engine_lanes")))


def _requests(page: Page) -> float:
    return sum(page.labelled("requests_total", "status").values())


def _cpu_seconds(page: Page) -> float:
    return page.values.get("process_cpu_seconds_total", 0.0)
