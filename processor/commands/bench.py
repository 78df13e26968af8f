"""``speechmill bench``: what the pipeline does under load, on the user's own parts."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from processor.bench import plots
from processor.bench.embedded import embedded
from processor.bench.html import report
from processor.bench.plan import Lengths, Plan
from processor.bench.run import State, run
from processor.bench.table import rendered
from processor.commands.console import (
    check_interrupted,
    err,
    interruptible,
    out,
    uninterruptible,
)
from processor.commands.results import counting
from processor.errors import SettingsError
from processor.settings import Settings, load
from producers.documents import split_text

#: What counts if nothing is said, in requests.
_REQUESTS = 500


def bench(
    context: typer.Context,
    requests: Annotated[
        int | None, typer.Option(min=1, help=f"How many count. Default: {_REQUESTS}.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Instead: for how long they count.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Requests a second, at random moments. Default: as fast as it goes."),
    ] = None,
    warm_up: Annotated[
        float, typer.Option(min=0, help="Seconds that do not count, at least.")
    ] = 3.0,
    workers: Annotated[
        int,
        typer.Option(
            min=0, max=256, help="Started here, on topics of their own; 0: those that run already."
        ),
    ] = 1,
    engine: Annotated[str | None, typer.Option(help="Of the workers started here.")] = None,
    local: Annotated[
        bool, typer.Option("--embedded", help="On a broker and a store started here.")
    ] = False,
    text: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Speak this .txt, a request a paragraph."),
    ] = None,
    median: Annotated[
        float, typer.Option(help="Of synthetic texts' log-normal lengths, in characters.")
    ] = 100.0,
    spread: Annotated[
        float, typer.Option(help="Likewise: two in three are within this factor of the median.")
    ] = 1.6,
    urgent: Annotated[float, typer.Option(help="Share that goes to the priority topic.")] = 0.0,
    ahead: Annotated[
        int | None,
        typer.Option(help="Without a rate: requests unanswered at any time. Default: 2 windows."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="With --workers 0: URL of a worker's /metrics; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed, the same texts and moments.")] = 0,
    json_to: Annotated[
        Path | None, typer.Option("--json", help="All figures as JSON; '-': standard output.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="A report with plots, in one file.")] = None,
) -> None:
    """Put the pipeline under load and measure it. Exit status 1 if a request failed."""
    if html is not None:
        plots.require()
    settings = load(context.obj, {} if engine is None else {"engine": {"name": engine}})
    if local and not workers:
        raise SettingsError("--embedded starts a broker that no worker is at: add --workers")
    plan = Plan(
        requests=_REQUESTS if requests is None and seconds is None else requests,
        seconds=seconds,
        rate=rate,
        warm_up_s=warm_up,
        workers=workers,
        ahead=ahead,
        lengths=Lengths(median, spread),
        urgent=urgent,
        texts=_paragraphs(text, settings),
        seed=seed,
        pages=tuple(metrics or ()),
    )
    interruptible()
    try:
        with _parts(settings, local=local) as (parts, pids), _telling(plan) as tell:
            result = run(parts, plan, pids=pids, tell=tell, closing=uninterruptible)
    except KeyboardInterrupt:
        err.print("stopping")
        raise typer.Exit(130) from None
    (err if json_to == Path("-") else out).print(rendered(result))
    if json_to == Path("-"):
        sys.stdout.buffer.write(result.to_json() + b"\n")
    elif json_to is not None:
        json_to.write_bytes(result.to_json())
    if html is not None:
        html.write_text(report(result), "utf-8")
    if result.codes:
        raise typer.Exit(1)


@contextmanager
def _parts(settings: Settings, *, local: bool) -> Iterator[tuple[Settings, dict[str, int]]]:
    """The settings that lead to broker and store, and the process ids of those started here."""
    if not local:
        yield settings, {}
        return
    with embedded(settings) as found:
        yield found


def _paragraphs(file: Path | None, settings: Settings) -> tuple[str, ...]:
    if file is None:
        return ()
    limits = settings.text
    with file.open(encoding="utf-8-sig") as stream:
        found = tuple(split_text(stream, limits.max_characters, limits.default_language))
    if not found:
        raise SettingsError(f"{file}: there is no text in it")
    return found


@contextmanager
def _telling(plan: Plan) -> Iterator[Callable[[State], None]]:
    """Shows where a run is: a bar on a terminal, a line a phase elsewhere."""
    said = ""
    with counting("starting", plan.requests, quiet=False) as progress:

        def tell(state: State) -> None:
            nonlocal said
            check_interrupted()
            _show(progress, state)
            if state.phase != said and not err.is_terminal:
                err.print(state.phase)
            said = state.phase

        yield tell


def _show(progress: Progress, state: State) -> None:
    progress.update(
        progress.task_ids[0],
        description=state.phase,
        completed=state.counted or 0,
        note=f"{state.answered} of {state.sent} sent are answered",
    )
