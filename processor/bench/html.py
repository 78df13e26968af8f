"""A result as one HTML file that needs nothing beside it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from html import escape
from typing import Any

from processor.bench.plots import plots
from processor.bench.result import Result
from processor.bench.table import explained

__all__ = ["report"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2026; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left;
  vertical-align: top; border-bottom: 1px solid #e6e8eb; }
td.value { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
figure { margin: 0; } svg { max-width: 100%; height: auto; }
"""


def report(result: Result) -> str:
    """The page. Raises MissingExtra if there is nothing to plot with."""
    title = f"speechmill bench, {result.began:%Y-%m-%d %H:%M} UTC"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _section("Figures", _figures(result)),
        *(_section(name, f"<figure>{svg}</figure>") for name, svg in plots(result)),
        _section("Workers", _workers(result)) if result.workers else "",
        _section("Machine", _pairs(asdict(result.machine))),
        _section("Parameters", _pairs(result.parameters)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{body}</section>"


def _figures(result: Result) -> str:
    rows = (
        f'<tr><td>{escape(name)}</td><td class="value">{escape(value)}</td>'
        f"<td>{escape(meaning)}</td></tr>"
        for name, value, meaning in explained(result)
    )
    return f"<table>{''.join(rows)}</table>"


def _workers(result: Result) -> str:
    rows = (
        f'<tr><td>{escape(worker.name)}</td><td class="value">{worker.requests}</td>'
        f'<td class="value">{worker.audio_s:.1f}</td><td class="value">{worker.busy_share:.1%}</td>'
        f'<td class="value">{"" if worker.memory_mb is None else f"{worker.memory_mb:.0f}"}</td>'
        "</tr>"
        for worker in result.workers
    )
    head = "<th>worker<th>requests<th>audio, s<th>device busy<th>memory, MB"
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _pairs(values: Mapping[str, Any]) -> str:
    rows = (
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in _flat(values)
    )
    return f"<table>{''.join(rows)}</table>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
