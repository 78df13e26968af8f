"""``speechmill demo``: a real text through the real pipeline, on embedded parts, in one go."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import typer
from rich.table import Table

from processor.commands.console import check_interrupted, err, interruptible, out, uninterruptible
from processor.commands.results import counting, download, good, rtf
from processor.errors import SpeechmillError
from processor.events import SpeechCompleted, SpeechRequest
from processor.local.stack import Stack, threads_each
from processor.settings import UP_FILE, cores
from processor.store import MinioStore
from producers.client import SpeechProducer, make_request
from producers.documents import BadLine, Options, read_requests

_OUT = UP_FILE.parent / "demo"
_DEADLINE_S = 600.0


class DemoFailed(SpeechmillError):
    """Some of the demo's requests have no audio."""


def demo(
    text: Annotated[str | None, typer.Option(help="Speak this instead.")] = None,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Speak this .txt instead.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=8, help="How many share the topic.")] = 2,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it all running afterwards, until Ctrl-C.")
    ] = False,
) -> None:
    """Speak a chapter of Alice in Wonderland, on a broker, a store and workers of its own."""
    began = time.monotonic()
    interruptible()
    requests = _requests(text, file)
    folder = Path(tempfile.mkdtemp(prefix="speechmill-demo-"))
    stack = None
    try:
        stack = Stack(folder)
        for number in range(workers):
            stack.add_worker(
                f"worker-{number}", {"SPEECHMILL_ENGINE__THREADS": str(threads_each(workers))}
            )
        out.print(
            f"broker {stack.broker.bootstrap}, object store {stack.bucket.endpoint}, "
            f"{workers} workers: {time.monotonic() - began:.1f} s"
        )
        events, seconds = _speak(stack, requests)
        paths = _save(stack, events)
        check_interrupted()
        _table(events, paths, seconds)
        if keep:
            _hold(stack)
    except KeyboardInterrupt:
        err.print("stopping")
        raise typer.Exit(130) from None
    finally:
        uninterruptible()
        if stack is not None:
            stack.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if failed := [event for event in events if not good(event)]:
        error = failed[0].error
        raise DemoFailed(f"{len(failed)} of {len(events)} failed: {error.message if error else ''}")


def _requests(text: str | None, file: Path | None) -> list[SpeechRequest]:
    if text is not None:
        return [make_request(text, request_id="demo-000000", document_id="demo", index=0)]
    source = file or Path(str(files("processor.local").joinpath("demo.txt")))
    with source.open("rb") as stream:
        entries = list(read_requests(stream, str(source), "txt", Options(document_id="demo")))
    bad = [entry for entry in entries if isinstance(entry, BadLine)]
    if bad or not entries:
        raise DemoFailed(f"{bad[0].place}: {bad[0].reason}" if bad else f"{source}: no text in it")
    return [entry for entry in entries if isinstance(entry, SpeechRequest)]


def _speak(stack: Stack, requests: list[SpeechRequest]) -> tuple[list[SpeechCompleted], float]:
    """All completions, in order, and the seconds from the first submission to the last of them."""
    began = time.monotonic()
    with (
        SpeechProducer(stack.settings(), follow=True) as producer,
        counting("workers joining", len(requests), quiet=False) as progress,
    ):
        submissions = list(producer.submit_many(requests))
        pending = {submission.completion for submission in submissions}
        done_before = 0
        while pending:
            done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
            check_interrupted()
            stack.check()
            finished = len(submissions) - len(pending)
            if done:
                progress.update(progress.task_ids[0], description="speaking", advance=len(done))
            if not err.is_terminal and finished // 10 > done_before // 10:
                err.print(f"{finished} of {len(submissions)} done")
            done_before = finished
            if time.monotonic() - began > _DEADLINE_S:
                raise DemoFailed(f"{len(pending)} requests had no answer in {_DEADLINE_S:g} s")
        return [s.completion.result() for s in submissions], time.monotonic() - began


def _save(stack: Stack, events: list[SpeechCompleted]) -> list[Path | None]:
    """Each part as a file, and the whole as one."""
    shutil.rmtree(_OUT, ignore_errors=True)
    store = MinioStore(stack.settings().store)
    paths = [
        download(store, event, _OUT, f"{number:03d}") if good(event) else None
        for number, event in enumerate(events, 1)
    ]
    present = [path for path in paths if path is not None]
    if present:
        rate = soundfile.info(present[0]).samplerate
        with soundfile.SoundFile(_OUT / "whole.wav", "w", rate, 1, "PCM_16") as whole:
            for samples in _with_pauses(present, rate):
                whole.write(samples)
    return paths


def _with_pauses(paths: list[Path], rate: int) -> Iterator[np.ndarray]:
    for path in paths:
        yield soundfile.read(path, dtype="float32")[0]
        yield np.zeros(rate // 2, np.float32)


def _table(events: list[SpeechCompleted], paths: list[Path | None], seconds: float) -> None:
    table = Table("id", "audio", "RTF", "worker", "file", box=None, pad_edge=False)
    for column in table.columns[1:3]:
        column.justify = "right"
    for event, path in zip(events, paths, strict=True):
        factor = rtf(event)
        if path is None or event.audio is None:
            why = event.error.code if event.error else ""
            table.add_row(event.request_id, "-", "-", event.worker, f"{event.status.value}: {why}")
            continue
        table.add_row(
            event.request_id,
            f"{event.audio.duration_ms / 1000:.1f} s",
            "stored" if factor is None else f"{factor:.4f}",
            event.worker,
            str(path),
        )
    out.print(table)
    audio_s = sum(event.usage.audio_ms for event in events) / 1000
    characters = sum(event.usage.characters for event in events)
    if not audio_s:
        return
    out.print(
        f"\n{len(events)} texts, {characters} characters, {audio_s:.1f} s of audio in "
        f"{seconds:.1f} s: {audio_s / seconds:.0f} times faster than it plays, "
        f"on {cores()} cores."
    )
    out.print(f"Listen: {_OUT / 'whole.wav'}")


def _hold(stack: Stack) -> None:
    out.print("\nStill running. In another terminal:")
    for name, value in stack.environment.items():
        out.print(f"  export {name}={value}")
    out.print("  speechmill submit --wait 'Good morning.'\nCtrl-C ends all of it.")
    while True:
        check_interrupted()
        stack.check()
        stack.broker.child.wait(1.0)
