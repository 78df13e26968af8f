"""A result for the terminal."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table

from processor.bench.result import Cpu, Device, Result, Spread

__all__ = ["explained", "rendered"]


def rendered(result: Result) -> RenderableType:
    """The figures, each with what it means."""
    table = Table("figure", "value", "what it means", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, value, meaning in explained(result):
        table.add_row(name, value, meaning)
    return Group(table, "", *_notes(result))


def explained(result: Result) -> Iterator[tuple[str, str, str]]:
    """Name, value and meaning of each figure."""
    yield "requests", str(result.requests), f"counted, in {result.window_s:.1f} s after the warm-up"
    yield from _outcomes(result)
    yield "requests/s", f"{result.requests_per_s:.2f}", "answered"
    yield "audio", f"{result.audio_per_s:.1f} s/s", "seconds of audio per second, answered"
    if result.rtf is not None:
        yield "RTF", f"{result.rtf:.4f}", "seconds of compute per second of audio, on one lane"
    if result.device is not None:
        yield from _device(result.device)
    yield from _latencies(result)
    if result.cpu is not None:
        yield from _cpu(result.cpu)
    memory = [worker.memory_mb for worker in result.workers if worker.memory_mb]
    if memory:
        yield "memory", f"{max(memory):.0f} MB", "of the largest worker, at its most"


def _outcomes(result: Result) -> Iterator[tuple[str, str, str]]:
    for status, count in result.statuses.items():
        if status != "completed":
            codes = ", ".join(f"{code} {number}" for code, number in result.codes.items())
            yield f"  {status}", str(count), codes if status == "failed" else "of them"
    if result.cache_hits:
        yield "  from the store", str(result.cache_hits), "of them, without synthesis"
    if result.repeated:
        yield "  answered twice", str(result.repeated), "completions that readers saw once more"


def _device(device: Device) -> Iterator[tuple[str, str, str]]:
    yield (
        "device busy", f"{device.busy_share:.1%}",
        f"of the time within calls to the engine, {_counted(device.lanes, 'lane')}",
    )  # fmt: skip
    yield "made", f"{device.audio_per_s:.1f} s/s", "of audio, by the workers' own count"
    yield (
        "batch", f"{device.batch_mean:.1f}",
        f"segments a call, on average of {device.calls} calls of {device.call_s * 1000:.0f} ms; "
        + _sizes(device.batch_sizes),
    )  # fmt: skip
    yield "padding", f"{device.padding_share:.1%}", "of the audio computed only to even a batch"
    if device.splits:
        yield "split", str(device.splits), "calls that failed and were made again in parts"


def _latencies(result: Result) -> Iterator[tuple[str, str, str]]:
    how = (
        "p50 / p95 / p99, from when it was due to its completion"
        if result.parameters["plan"]["rate"]
        else "p50 / p95 / p99; mostly the queue that the run keeps up (see --rate)"
    )
    rows = (
        ("latency", result.latency_s, how),
        ("  urgent", result.urgent_latency_s, "of requests on the priority topic"),
        ("  queued", result.queued_s, "of it: until the engine took up the first segment"),
        ("  synthesis", result.synthesis_s, "of it: from then until the last was spoken"),
        ("  upload", result.upload_s, "of it: the audio into the store"),
        ("  sent late", result.sender_late_s, "of it: the bench itself was held up"),
    )
    for name, spread, meaning in rows:
        if spread is not None:
            yield name, _three(spread), meaning


def _cpu(cpu: Cpu) -> Iterator[tuple[str, str, str]]:
    yield "CPU a request", f"{cpu.total_ms:.2f} ms", "of the workers' processes"
    for name, value in sorted(cpu.stages_ms.items(), key=lambda item: -item[1]):
        yield f"  {name}", f"{value:.2f} ms", "of it, in this stage's threads"
    yield (
        "  other",
        f"{cpu.other_ms:.2f} ms",
        "of it, outside the stages",
    )
    used = ", ".join(f"{name} {value:.2f}" for name, value in cpu.cores.items())
    yield "cores used", f"{sum(cpu.cores.values()):.2f}", used


def _notes(result: Result) -> Iterator[str]:
    machine, plan = result.machine, result.parameters["plan"]
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    load = f", load {machine.load_before} before" if machine.load_before is not None else ""
    yield f"{machine.processor}, {machine.cores} cores{load}; {machine.system}, {machine.python}"
    yield versions
    idle = {"lengths"} if plan.get("texts") else {"texts"}
    given = ", ".join(
        f"{name} {value}"
        for name, value in plan.items()
        if name not in idle and value not in (None, [])
    )
    yield f"plan: {given}"


def _sizes(bins: list[tuple[int, int]]) -> str:
    return "up to " + ", ".join(f"{size}: {count}" for size, count in bins)


def _three(spread: Spread) -> str:
    return " / ".join(seconds(value) for value in (spread.p50, spread.p95, spread.p99))


def seconds(value: float) -> str:
    """Of a magnitude that can be read."""
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.2f} s"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
