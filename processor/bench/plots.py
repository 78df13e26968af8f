"""A result's plots, as SVG. Needs the extra ``bench``; ``require`` tells before a run."""

import io
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from statistics import fmean
from typing import TYPE_CHECKING

from processor.bench.result import Cpu, Device, Result
from processor.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plots", "require"]

_BLUE, _ORANGE, _GREY = "#2563a8", "#d9782d", "#8a8f98"
_SIZE = (7.2, 2.9)
_SMOOTH_S = 5.0


def require() -> None:
    """Raise MissingExtra if there is nothing to plot with."""
    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib, which draws the report's plots,", "bench")


def plots(result: Result) -> Iterator[tuple[str, str]]:
    """Title and SVG of each plot that there are figures for. Raises MissingExtra."""
    require()
    yield "Throughput over time", _svg(lambda axes: _throughput(axes, result))
    if result.latency_curve:
        yield "Latency", _svg(lambda axes: _latency(axes, result))
    yield "Lag over time", _svg(lambda axes: _lag(axes, result))
    device, cpu = result.device, result.cpu
    if device is not None:
        yield "Device busy share over time", _svg(lambda axes: _busy(axes, result))
        yield "Batch sizes", _svg(lambda axes: _batches(axes, device))
    if cpu is not None:
        yield "Processor time a request", _svg(lambda axes: _stages(axes, cpu))


def _svg(draw: "Callable[[Axes], None]") -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # A fixed salt: the same result gives the same file. Text stays text: small, and searchable.
    with rc_context({"svg.hashsalt": "speechmill", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    # From the element on: an XML declaration has no place in a page.
    svg = out.getvalue()
    return svg[svg.index("<svg") :]


def _throughput(axes: "Axes", result: Result) -> None:
    at = [moment.at for moment in result.series]
    requests = [moment.requests_per_s for moment in result.series]
    # Answers come in bursts, as each waits for those before it in its partition.
    axes.plot(at, requests, color=_BLUE, alpha=0.3, linewidth=0.8)
    axes.plot(at, _smooth(at, requests), color=_BLUE)
    _time(axes, "requests/s", _BLUE)
    other = axes.twinx()
    audio = [moment.audio_per_s for moment in result.series]
    other.plot(at, _smooth(at, audio), color=_ORANGE, linewidth=1)
    other.set_ylabel("seconds of audio per second", color=_ORANGE)
    other.set_ylim(bottom=0)


def _smooth(at: list[float], values: list[float]) -> list[float]:
    """Means of the last few seconds."""
    step = at[1] - at[0] if len(at) > 1 else _SMOOTH_S
    most = max(1, round(_SMOOTH_S / step))
    return [fmean(values[max(0, n + 1 - most) : n + 1]) for n in range(len(values))]


def _latency(axes: "Axes", result: Result) -> None:
    axes.plot(
        [seconds for _, seconds in result.latency_curve],
        [percentile for percentile, _ in result.latency_curve],
        color=_BLUE,
    )
    if result.latency_s is not None:
        for value, name in ((result.latency_s.p50, "p50"), (result.latency_s.p99, "p99")):
            axes.axvline(value, color=_GREY, linewidth=0.8, linestyle=":")
            axes.annotate(name, (value, 3), color=_GREY)
    axes.set_xlabel("seconds from due to completed")
    axes.set_ylabel("share of requests, %")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100.5)


def _lag(axes: "Axes", result: Result) -> None:
    at = [moment.at for moment in result.series]
    axes.plot(at, [moment.lag_requests for moment in result.series], color=_BLUE)
    _time(axes, "requests", _BLUE)
    other = axes.twinx()
    other.plot(at, [moment.lag_audio_s for moment in result.series], color=_ORANGE, linewidth=1)
    other.set_ylabel("seconds of audio", color=_ORANGE)
    other.set_ylim(bottom=0)


def _busy(axes: "Axes", result: Result) -> None:
    known = [(m.at, m.busy_share * 100) for m in result.series if m.busy_share is not None]
    axes.plot([at for at, _ in known], [share for _, share in known], color=_BLUE)
    _time(axes, "busy, %", _BLUE)
    axes.set_ylim(0, 105)


def _batches(axes: "Axes", device: Device) -> None:
    names = [f"≤ {size}" for size, _ in device.batch_sizes]
    axes.bar(names, [count for _, count in device.batch_sizes], color=_BLUE)
    axes.set_xlabel("segments in a call")
    axes.set_ylabel("calls")


def _stages(axes: "Axes", cpu: Cpu) -> None:
    parts = sorted((cpu.stages_ms | {"other": cpu.other_ms}).items(), key=lambda item: item[1])
    axes.barh([name for name, _ in parts], [value for _, value in parts], color=_BLUE)
    axes.set_xlabel("milliseconds")


def _time(axes: "Axes", what: str, color: str) -> None:
    axes.axvline(0, color=_GREY, linewidth=0.8, linestyle=":")
    axes.set_xlabel("seconds from the beginning of the window")
    axes.set_ylabel(what, color=color)
    axes.set_ylim(bottom=0)
