"""How a completion is shown and its audio fetched, the same in every command."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from processor.codec import Codec
from processor.commands.console import err, out
from processor.errors import StoreError
from processor.events import SpeechCompleted, Status
from processor.store import ObjectStore

__all__ = ["counting", "download", "good", "print_json", "print_line", "rtf"]

_MAX_AUDIO_BYTES = 2_000_000_000
_SOUND = frozenset({Status.COMPLETED, Status.COMPLETED_WITH_WARNINGS})


def good(event: SpeechCompleted) -> bool:
    """Whether there is audio."""
    return event.status in _SOUND and event.audio is not None


def rtf(event: SpeechCompleted) -> float | None:
    """Real-time factor: seconds of compute per second of audio. None for a cache hit."""
    usage = event.usage
    return None if event.cache_hit or not usage.audio_ms else usage.compute_ms / usage.audio_ms


def _print(line: str) -> None:
    """One line of standard output; above the progress bar, if both are on the terminal."""
    if out.is_terminal and err.is_terminal:
        err.print(line, markup=False, soft_wrap=True)
    else:
        out.print(line, markup=False, soft_wrap=True)


def print_json(event: SpeechCompleted, **more: object) -> None:
    """The event on one line of standard output, ``more`` beside its fields."""
    fields = json.loads(Codec.encode_json(event)) | more
    _print(json.dumps(fields, ensure_ascii=False))


def print_line(event: SpeechCompleted, file: Path | None = None) -> None:
    """The event on one line, for people."""
    if event.audio is not None and good(event):
        seconds = f"{event.audio.duration_ms / 1000:.1f} s"
        where = str(file or f"{event.audio.bucket}/{event.audio.key}")
        how = "from the store" if event.cache_hit else f"RTF {rtf(event) or 0:.3f}"
        line = f"{event.request_id}  {event.status.value}  {seconds}  {how}  {where}"
    else:
        error = event.error
        why = f"{error.code}  {error.message}" if error else ""
        line = f"{event.request_id}  {event.status.value}  {why}"
    _print(line)


def download(store: ObjectStore, event: SpeechCompleted, folder: Path, name: str) -> Path:
    """The event's audio as ``folder/name.SUFFIX``. Raises StoreError if it is not what was said.

    ``name`` may come from a stranger's event: what could lead out of the folder is replaced.
    """
    audio = event.audio
    if audio is None:
        raise StoreError(f"{event.request_id} has no audio")
    data = store.get(audio.key, _MAX_AUDIO_BYTES, bucket=audio.bucket)
    if hashlib.sha256(data).hexdigest() != audio.sha256:
        raise StoreError(f"{audio.key}: its SHA-256 is not the one that the completion states")
    folder.mkdir(parents=True, exist_ok=True)
    safe = "".join(char if char.isalnum() or char in "-_" else "_" for char in name)[:120]
    path = folder / f"{safe or '_'}{Path(audio.key).suffix}"
    path.write_bytes(data)
    return path


@contextmanager
def counting(what: str, total: int | None, *, quiet: bool) -> Iterator[Progress]:
    """A progress bar with one task, on a terminal; nothing elsewhere or if ``quiet``."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
        disable=quiet or not err.is_terminal,
        transient=True,
    ) as progress:
        progress.add_task(what, total=total, note="")
        yield progress
