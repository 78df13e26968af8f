"""``speechmill watch``: completions as they appear."""

import signal
import threading
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from processor import registry
from processor.codec import Codec
from processor.commands.console import err, settings_of
from processor.commands.results import download, good, print_json, print_line
from processor.commands.times import moment
from processor.events import SpeechCompleted
from processor.store import MinioStore
from producers.completions import CompletionReader


def watch(
    context: typer.Context,
    since: Annotated[
        str,
        typer.Option(help="now, beginning, or how far back (90s, 15m, 2h, 1d), or an ISO instant."),
    ] = "now",
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    document: Annotated[str | None, typer.Option(help="Only this document_id's.")] = None,
    job: Annotated[str | None, typer.Option(help="Only this job_id's.")] = None,
    save: Annotated[Path | None, typer.Option(help="Save the audio in this folder.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Follow the completions, until Ctrl-C."""
    settings = settings_of(context)
    start = _instant(since)
    codec = Codec(registry.connect(settings.registry))
    reader = CompletionReader(settings.kafka, codec, since=start)
    store = MinioStore(settings.store)

    def wanted(event: SpeechCompleted) -> bool:
        return (
            tenant in (None, event.tenant)
            and document in (None, event.document_id)
            and job in (None, event.job_id)
        )

    seen = 0
    stop = threading.Event()
    # A flag, looked at between polls: an exception out of a handler breaks the client's call.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    err.print(f"watching {settings.kafka.completions}; Ctrl-C ends it")
    try:
        while not stop.is_set() and (count is None or seen < count):
            for event in filter(wanted, reader.read(0.5)):
                file = None
                if save is not None and good(event):
                    file = download(store, event, save, event.request_id)
                if as_json:
                    print_json(event, **({"file": str(file)} if file else {}))
                else:
                    print_line(event, file)
                seen += 1
                if seen == count:
                    break
    finally:
        reader.close()


def _instant(since: str) -> Literal["end", "beginning"] | datetime:
    if since == "now":
        return "end"
    if since == "beginning":
        return "beginning"
    return moment(since, "--since") or "end"
