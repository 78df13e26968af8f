"""``speechmill topics``: make what the pipeline needs before it runs."""

import typer

from processor.commands.console import out, settings_of
from processor.kafka import create_topics
from processor.store import MinioStore

app = typer.Typer(help="Topics and the bucket.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps ``topics create`` a command of two words."""


@app.command("create")
def create(context: typer.Context) -> None:
    """Make the topics and the bucket that are missing; what is there is left alone."""
    settings = settings_of(context)
    for name, made in create_topics(settings.kafka, timeout_s=10.0).items():
        how = f"{settings.kafka.partitions} partitions" if made else "there already"
        out.print(f"topic {name}: {how}")
    MinioStore(settings.store).ensure_bucket()
    out.print(f"bucket {settings.store.bucket}: there")
