"""``speechmill submit``: texts and files to the request topic, and if asked their audio back."""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import TimeoutError as Late
from pathlib import Path
from typing import Annotated, Any

import typer

from processor.commands.console import err, out, settings_of
from processor.commands.results import counting, download, good, print_json, print_line
from processor.errors import SpeechmillError
from processor.events import SpeechRequest
from processor.settings import Settings
from processor.store import MinioStore
from producers.client import SpeechProducer, Submission, make_request
from producers.documents import FORMATS, BadLine, DocumentError, Options, read_requests


def submit(
    context: typer.Context,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts, or .txt, .jsonl and .csv files; '-' or nothing: stdin."),
    ] = None,
    voice: Annotated[str | None, typer.Option(help="Voice of the engine.")] = None,
    language: Annotated[str | None, typer.Option(help="BCP 47 tag, such as en.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Who asks.")] = None,
    speed: Annotated[float | None, typer.Option(help="1.0 is the voice's own pace.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same audio.")] = None,
    audio: Annotated[
        str | None, typer.Option("--format", help="wav, flac, mp3, pcm, mulaw or alaw.")
    ] = None,
    document: Annotated[
        str | None, typer.Option(help="document_id; default: the file's name and some letters.")
    ] = None,
    read_as: Annotated[
        str | None, typer.Option("--as", help="txt, jsonl or csv, where no suffix says it.")
    ] = None,
    in_order: Annotated[
        bool, typer.Option(help="A document's parts to one worker, answered in their order.")
    ] = False,
    urgent: Annotated[
        bool, typer.Option("--urgent", help="By the priority topic: spoken before all others.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the completions.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Wait, and save the audio in this folder.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Longest wait, in seconds.")] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Ask for texts to be spoken. Exit status 1 if an entry was refused or a request failed."""
    settings = settings_of(context)
    fields = {
        "voice": voice, "language": language, "tenant": tenant, "speed": speed, "seed": seed,
        "output": None if audio is None else {"format": audio},
    }  # fmt: skip
    fields = {name: value for name, value in fields.items() if value is not None}
    follow = wait or save is not None
    entries = _entries(settings, texts or ["-"], read_as, document, fields)
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)  # before anything is spoken for it
    with SpeechProducer(settings, follow=follow) as producer:
        job = _Job(producer, as_json=as_json, follow=follow, in_order=in_order, urgent=urgent)
        job.submit(entries)
        if not job.sent and not job.bad:
            raise DocumentError("there is no text in it")
        if follow:
            job.wait(timeout, MinioStore(settings.store) if save else None, save)
    job.report(producer)
    if job.bad:
        raise typer.Exit(1)


class _Job:
    """One run of the command: what was submitted, and how much went wrong."""

    def __init__(
        self,
        producer: SpeechProducer,
        *,
        as_json: bool,
        follow: bool,
        in_order: bool,
        urgent: bool,
    ) -> None:
        self._producer = producer
        self._as_json = as_json
        self._follow = follow
        self._in_order = in_order
        self._urgent = urgent
        self._submissions: list[Submission] = []
        self.sent = 0
        self.bad = 0

    def submit(self, entries: Iterator[SpeechRequest | BadLine]) -> None:
        # Only what is to be waited for has an end that is worth a bar.
        with counting("submitting", None, quiet=self._as_json or self._follow) as progress:
            for entry in entries:
                if isinstance(entry, BadLine):
                    self._complain(entry.place, entry.reason)
                    continue
                try:
                    key = entry.document_id if self._in_order else None
                    submission = self._producer.submit(entry, key=key, urgent=self._urgent)
                except SpeechmillError as error:
                    self._complain(entry.request_id, str(error))
                    continue
                self.sent += 1
                submission.delivered.add_done_callback(self._count_lost)
                if self._follow:
                    self._submissions.append(submission)
                elif self._as_json:
                    out.print(json.dumps({"request_id": entry.request_id}), markup=False)
                progress.advance(progress.task_ids[0])

    def wait(self, seconds: float, store: MinioStore | None, folder: Path | None) -> None:
        """Print each completion in the order of submission, until all are there or time is up."""
        deadline = time.monotonic() + seconds
        late = 0
        with counting("speaking", len(self._submissions), quiet=self._as_json) as progress:
            for submission in self._submissions:
                try:
                    event = submission.completion.result(max(0.0, deadline - time.monotonic()))
                except Late:
                    late += 1
                    continue
                except SpeechmillError as error:
                    self._complain(submission.request.request_id, str(error))
                    continue
                self.bad += not good(event)
                file = None
                if store is not None and folder is not None and good(event):
                    file = download(store, event, folder, event.request_id)
                if self._as_json:
                    print_json(event, **({"file": str(file)} if file else {}))
                else:
                    print_line(event, file)
                progress.advance(progress.task_ids[0])
        if late:
            self._complain("waiting", f"{late} requests had no answer in {seconds:g} s")

    def report(self, producer: SpeechProducer) -> None:
        if not self._as_json and not self._follow:
            noun = "request" if self.sent == 1 else "requests"
            err.print(f"{self.sent} {noun} submitted to {producer.topic}")

    def _count_lost(self, delivered: Any) -> None:
        if (error := delivered.exception()) is not None and not self._follow:
            self._complain("not delivered", str(error))

    def _complain(self, place: str, reason: str) -> None:
        self.bad += 1
        if self._as_json:
            refused = {"place": place, "status": "refused", "error": {"message": reason}}
            out.print(json.dumps(refused, ensure_ascii=False), markup=False, soft_wrap=True)
        else:
            err.print(f"{place}: {reason}", markup=False, soft_wrap=True)


def _entries(
    settings: Settings,
    texts: list[str],
    read_as: str | None,
    document: str | None,
    fields: dict[str, Any],
) -> Iterator[SpeechRequest | BadLine]:
    options = Options(
        max_characters=settings.text.max_characters,
        language=fields.get("language", settings.text.default_language),
        document_id=document,
        fields=fields,
    )
    for text in texts:
        path = Path(text) if len(text) < 4096 and "\n" not in text else None
        suffix = path.suffix.lstrip(".").lower() if path else ""
        if text == "-":
            if sys.stdin.isatty():
                err.print("reading the terminal; Ctrl-D on a line of its own ends the text")
            yield from read_requests(sys.stdin.buffer, "stdin", read_as or "txt", options)
        elif path is not None and (suffix in FORMATS or read_as):
            if not path.is_file():
                raise DocumentError(f"{path}: no such file")
            with path.open("rb") as stream:
                yield from read_requests(stream, str(path), read_as or suffix, options)
        elif path is not None and len(text) < 256 and path.is_file():
            raise DocumentError(f"{path}: is it text? Say how to read it: --as {'|'.join(FORMATS)}")
        else:
            yield make_request(text, **fields)
