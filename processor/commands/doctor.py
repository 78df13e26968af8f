"""``speechmill doctor``: is all there that a worker needs, and what to do where it is not."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import typer
from huggingface_hub import constants
from rich.table import Table

from processor import audio, engines
from processor.commands.console import out, settings_of
from processor.errors import SpeechmillError
from processor.kafka import topic_names, topic_partitions
from processor.registry import connect
from processor.settings import Settings
from processor.store import MinioStore

_Check = tuple[str, Callable[[Settings], str]]


class Unwell(SpeechmillError):
    """One check failed; the message says why and what to do."""


def doctor(context: typer.Context) -> None:
    """Check all that a worker needs, and say what to do. Exit status 1 if a check fails."""
    settings = settings_of(context)
    table = Table("check", "", "what was found, or what to do", box=None, pad_edge=False)
    sick = 0
    for name, check in _checks():
        try:
            table.add_row(name, "[green]ok[/]", check(settings))
        except SpeechmillError as error:
            sick += 1
            table.add_row(name, "[bold red]no[/]", str(error).replace("[", r"\["))
    out.print(table)
    if sick:
        raise typer.Exit(1)


def _checks() -> Iterator[_Check]:
    yield "broker", _broker
    yield "topics", _topics
    yield "store", _store
    yield "registry", _registry
    yield "engine", _engine
    yield "model cache", _cache
    yield "audio codecs", _codecs


def _broker(settings: Settings) -> str:
    try:
        topic_partitions(settings.kafka, timeout_s=5.0)
    except SpeechmillError as error:
        raise Unwell(
            f"{error}. Start one (`speechmill up` does, for a try), or set "
            "SPEECHMILL_KAFKA__BOOTSTRAP"
        ) from None
    return settings.kafka.bootstrap


def _topics(settings: Settings) -> str:
    try:
        found = topic_partitions(settings.kafka, timeout_s=1.0)
    except SpeechmillError:
        raise Unwell("not known while the broker is away") from None
    missing = [name for name in topic_names(settings.kafka) if name not in found]
    if missing:
        raise Unwell(f"missing: {', '.join(missing)}. Make them: speechmill topics create")
    return ", ".join(f"{name} ({found[name]})" for name in topic_names(settings.kafka))


def _store(settings: Settings) -> str:
    store = MinioStore(settings.store)
    try:
        store.check()
    except SpeechmillError as error:
        raise Unwell(
            f"{error}. Start one (`speechmill up` does, for a try), or set "
            "SPEECHMILL_STORE__ENDPOINT, __ACCESS_KEY and __SECRET_KEY"
        ) from None
    key = f"doctor/{uuid4()}"
    first, second = (store.put_if_absent(key, b"probe", "text/plain") for _ in range(2))
    store.remove(key)
    if not first or second:
        raise Unwell(
            f"{settings.store.endpoint} ignores If-None-Match, which first-writer-wins needs: "
            "use a server that has conditional writes"
        )
    return f"{settings.store.endpoint}, bucket {settings.store.bucket}, conditional writes"


def _registry(settings: Settings) -> str:
    registry = connect(settings.registry)
    if registry is None:
        return "none set: events are Avro single objects"
    registry.ping()
    return str(settings.registry.url)


def _engine(settings: Settings) -> str:
    engine = engines.create(settings)
    engine.warm_up()
    able = engine.capabilities
    engine.close()
    return (
        f"{able.engine} {able.revision}, {able.lanes} at once, "
        f"voices {', '.join(voice.name for voice in able.voices)}"
    )


def _cache(_: Settings) -> str:
    path = Path(constants.HF_HUB_CACHE)
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    if not os.access(place, os.W_OK):
        raise Unwell(f"{path} can't be written: set HF_HOME to a folder that can")
    return f"{path} ({'there' if path.exists() else 'made when it is needed'})"


def _codecs(_: Settings) -> str:
    tone = (np.sin(np.arange(24_000) / 10) / 2).astype(np.float32)
    try:
        sizes = {kind: len(audio.encode(tone, 24_000, kind).data) for kind in audio.FORMATS}
    except (RuntimeError, OSError) as error:  # soundfile's own errors are RuntimeErrors
        raise Unwell(f"libsndfile: {error}. Reinstall the package soundfile") from None
    return ", ".join(kind.value for kind in sizes)
