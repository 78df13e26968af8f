"""``speechmill calibrate``: how fast the engine is by how much it is given at once."""

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.bar import Bar
from rich.table import Table

from processor import engines
from processor.calibration import (
    Curve,
    Point,
    cache_folder,
    chosen,
    identity,
    matters,
    measure,
    store,
)
from processor.commands.console import err, out
from processor.settings import load

_BAR = 40


def calibrate(
    context: typer.Context,
    engine: Annotated[str | None, typer.Option(help="Instead of the settings' engine.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Largest batch. Default: what the engine takes.")
    ] = None,
    budget: Annotated[float, typer.Option(min=0, help="Seconds to measure for, about.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="The curve as one JSON object.")] = False,
) -> None:
    """Measure the engine by batch size, and keep the result for the workers of this machine, which
    go by it unless engine.max_batch is set.

    The smallest batch that reaches 95 % of the best throughput is the one to use: a larger one only
    makes each segment wait longer.
    """
    settings = load(context.obj, {} if engine is None else {"engine": {"name": engine}})
    model = engines.create(settings)
    began = time.monotonic()
    model.warm_up()
    able = model.capabilities
    err.print(f"{able.engine} {able.revision} is warm after {time.monotonic() - began:.1f} s")
    most = min(limit or able.max_batch, able.max_batch)
    curve = measure(model, most, budget, tell=_tell)
    known = identity(model, most, matters(settings))
    model.close()
    store(known, curve)
    if as_json:
        out.print(_json(known, curve, most), markup=False, soft_wrap=True)
        return
    use = chosen(curve, most)
    out.print(_table(curve, use))
    last = curve.points[-1].batch
    out.print(f"\nBest: {use} at once. Measured up to {last}: {curve.ended}.")
    if most == able.max_batch > 1:
        out.print(f"Kept for the workers of this machine, in {cache_folder()}", soft_wrap=True)


def _tell(point: Point) -> None:
    err.print(f"{point.batch} at once: {point.calls} calls of {point.call_s * 1000:.0f} ms")


def _table(curve: Curve, use: int) -> Table:
    most = max(point.speed for point in curve.points)
    table = Table("batch", "call", "audio s/s", "of the best", "", "", box=None, pad_edge=False)
    for column in table.columns[:4]:
        column.justify = "right"
    for point in curve.points:
        table.add_row(
            str(point.batch),
            f"{point.call_s * 1000:.0f} ms",
            f"{point.speed:.1f}",
            f"{point.speed / most:.0%}",
            Bar(most, 0, point.speed, width=_BAR),
            "← use this" if point.batch == use else "",
        )
    return table


def _json(known: dict[str, object], curve: Curve, limit: int) -> str:
    points = [asdict(point) | {"audio_per_s": point.speed} for point in curve.points]
    found = {"use": chosen(curve, limit), "ended": curve.ended, "points": points}
    return json.dumps(known | found)
