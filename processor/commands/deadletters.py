"""``speechmill deadletters``: look at what could not be served, send it once more, delete it."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from processor import registry
from processor.codec import Codec
from processor.commands.console import err, settings_of
from processor.commands.letters import counted, print_letter, print_letters, printable, say
from processor.commands.times import moment
from processor.errors import Code
from processor.settings import Settings
from producers.letters import Letter, LetterMissing, Letters, Place, Wanted
from producers.replay import Replay, refusal

app = typer.Typer(help="What could not be served: look, replay, purge.", no_args_is_help=True)

Codes = Annotated[
    list[Code] | None,
    typer.Option(
        "--code", case_sensitive=False, metavar="CODE", help="Only of this code; may be repeated."
    ),
]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant's, where it can be read.")]
Since = Annotated[
    str | None, typer.Option(help="Only since then: 15m, 2h, 1d, or 2026-01-31T12:00:00Z.")
]
Until = Annotated[str | None, typer.Option(help="Only before then, written likewise.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list")
def list_letters(
    context: typer.Context,
    codes: Codes = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the dead letters that there are now, in the order of their places."""
    settings = settings_of(context)
    wanted = wanted_of(codes, tenant, since, until)
    with closing(_open(settings)) as letters:
        count = print_letters(islice(letters.matching(wanted), limit), as_json=as_json)
    if not as_json:
        err.print(f"{counted(count, 'dead letter')} in {settings.kafka.deadletters}")


@app.command("show")
def show(
    context: typer.Context,
    letter: Annotated[str, typer.Argument(help="PARTITION:OFFSET as listed, or a request_id.")],
) -> None:
    """Show one dead letter: why it is here, its headers, and what was asked for."""
    settings = settings_of(context)
    with closing(_open(settings)) as letters:
        place = Place.parse(letter)
        if place is not None:
            print_letter(letters.at(place), settings.kafka.deadletters)
            return
        missing = True
        for found in letters.matching(Wanted()):
            if _is_named(found, letter):
                if not missing:
                    say("")
                print_letter(found, settings.kafka.deadletters)
                missing = False
    if missing:
        raise LetterMissing(
            f"{settings.kafka.deadletters} has no letter of request {printable(letter)}"
        )


@app.command("replay")
def replay(
    context: typer.Context,
    places: Annotated[
        list[str] | None,
        typer.Argument(metavar="PARTITION:OFFSET", help="These; otherwise all that match."),
    ] = None,
    codes: Codes = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    yes: Yes = False,
) -> None:
    """Send dead letters to the request topic once more: key, value and headers as they came.

    They stay where they are: Kafka's topics are append-only, so a second replay sends them a second
    time. Exit status 1 if one was refused or is not confirmed.
    """
    settings = settings_of(context)
    named = [_place(text) for text in dict.fromkeys(places or [])]
    if named and (codes or tenant or since or until or limit):
        raise typer.BadParameter("give either places or conditions", param_hint="PARTITION:OFFSET")
    wanted = wanted_of(codes, tenant, since, until)
    with closing(_open(settings)) as letters:

        def chosen() -> Iterator[Letter]:
            """Afresh each time; the same letters, as the end of the topic is settled once."""
            if named:
                return (letters.at(place) for place in named)
            return islice(letters.matching(wanted), limit)

        run = _Run(settings)
        if dry_run:
            count = print_letters(run.sound(chosen()), as_json=False)
            err.print(f"{counted(count, 'dead letter')} would go to the request topic")
        else:
            if not yes:
                _can_ask()
                count = sum(refusal(letter, run.kafka) is None for letter in chosen())
                _ask(f"Send {counted(count, 'dead letter')} to the request topic once more?", count)
            run.replay(chosen())
    if run.bad:
        raise typer.Exit(1)


@app.command("purge")
def purge(
    context: typer.Context,
    before: Annotated[
        str | None, typer.Option(help="Only what is older: 7d, or 2026-01-31T12:00:00Z.")
    ] = None,
    codes: Annotated[list[str] | None, typer.Option("--code", hidden=True)] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", hidden=True)] = None,
    yes: Yes = False,
) -> None:
    """Delete dead letters for good: all there are now, or the old ones.

    Kafka deletes from the front of a partition only, so they can't be chosen by code or tenant.
    """
    if codes or tenant:
        raise typer.BadParameter(
            "Kafka deletes from the front of a partition only, so letters can't be deleted by code "
            "or tenant. Replay what is still wanted, then purge all, or what is old (--before)",
            param_hint="--code" if codes else "--tenant",
        )
    settings = settings_of(context)
    moment_before = moment(before, "--before")
    topic = settings.kafka.deadletters
    with closing(_open(settings)) as letters:
        front = letters.front(moment_before)
        # Offsets, which the marks of transactions take as well.
        most = sum(end - low for low, end in front.values())
        if not front:
            err.print(f"nothing to delete in {topic}")
            return
        if not yes:
            _can_ask()
            _ask(f"Delete up to {counted(most, 'dead letter')} from {topic} for good?", most)
        letters.purge(front)
    for number, (low, end) in sorted(front.items()):
        say(f"{topic} {number}: deleted from {low} to {end - 1}")


class _Run:
    """One replay: what went, and how much did not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.kafka = settings.kafka
        self.bad = 0

    def sound(self, letters: Iterable[Letter]) -> Iterator[Letter]:
        """Those that can be replayed; the others are complained of."""
        for letter in letters:
            if (why := refusal(letter, self.kafka)) is None:
                yield letter
            else:
                self.complain(letter, why)

    def complain(self, letter: Letter, why: str) -> None:
        self.bad += 1
        line = f"{letter.place}: not replayed: {printable(why)}"
        err.print(line, markup=False, emoji=False, soft_wrap=True)

    def replay(self, letters: Iterable[Letter]) -> None:
        sender = Replay(self._settings.kafka, self.complain)
        try:
            for letter in self.sound(letters):
                sender.send(letter)
        finally:  # also of a run that was broken off it is said what went
            sender.finish()
            err.print(f"{counted(sender.replayed, 'dead letter')} replayed")
            if sender.replayed:
                err.print(
                    f"They stay in {self._settings.kafka.deadletters}, as Kafka's topics are "
                    "append-only: replayed again, they are sent again. `speechmill deadletters "
                    "purge` deletes from the front.",
                    soft_wrap=True,
                )


def wanted_of(
    codes: Iterable[str] | None,
    tenant: str | None,
    since: str | None,
    until: str | None,
    now: datetime | None = None,
) -> Wanted:
    """The conditions that a command line gives. Raises BadParameter."""
    now = now or datetime.now(UTC)
    start, end = moment(since, "--since", now), moment(until, "--until", now)
    if start is not None and end is not None and start >= end:
        raise typer.BadParameter("is not before --until", param_hint="--since")
    return Wanted(frozenset(str(code) for code in codes or ()), tenant, start, end)


def _open(settings: Settings) -> Letters:
    return Letters(settings.kafka, Codec(registry.connect(settings.registry)))


def _place(text: str) -> Place:
    place = Place.parse(text)
    if place is None:
        raise typer.BadParameter(
            f"{text!r} is not PARTITION:OFFSET, as in 3:17", param_hint="PARTITION:OFFSET"
        )
    return place


def _is_named(letter: Letter, request_id: str) -> bool:
    """Also by the key, which the client library makes the request_id: the value may be broken."""
    return request_id == letter.request_id or os.fsencode(request_id) == letter.key


def _can_ask() -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here: add --yes", param_hint="--yes")


def _ask(question: str, count: int) -> None:
    """Return if the answer is yes, or there is nothing to ask about."""
    if count and not typer.confirm(question, err=True):
        err.print("nothing was done")
        raise typer.Exit(1)
