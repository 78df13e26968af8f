"""From what was seen to figures, and from figures to reports."""

import importlib.util
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from processor.bench import plots
from processor.bench.answers import Answer
from processor.bench.figures import Seen, figures
from processor.bench.html import report
from processor.bench.machine import Machine
from processor.bench.page import Page
from processor.bench.result import Result, Spread
from processor.bench.table import rendered
from processor.errors import MissingExtra
from processor.metrics import Metrics

pytestmark = pytest.mark.unit

#: On the monotonic clock, far from 0 as that is.
T0 = 1000.0


def answer(number: int, at: float, **changes: object) -> Answer:
    fields: dict[str, object] = {
        "number": number, "at": at, "status": "completed", "code": None, "cache_hit": False,
        "characters": 50, "audio_s": 3.0, "compute_s": 0.03, "queued_s": 0.2, "synthesis_s": 0.4,
        "upload_s": 0.01,
    }  # fmt: skip
    return Answer(**(fields | changes))  # type: ignore[arg-type]


def page(at: float, *, calls: int) -> Page:
    """A worker's metrics after so many calls of 8 segments, half a second each, on two lanes."""
    metrics = Metrics()
    metrics.lanes.set(2)
    for _ in range(calls):
        metrics.batch_size.observe(8)
        metrics.batch_seconds.observe(0.5)
        metrics.busy_seconds.inc(0.5)
        metrics.audio_seconds.inc(24)
        metrics.padded_seconds.inc(32)
        metrics.requests.labels("completed").inc(8)
        metrics.stage_cpu.labels("put").inc(0.016)
    return Page.parse(metrics.exposition().decode(), at)


def seen(**changes: object) -> Seen:
    """Eighty requests, one every 0.1 s, each answered half a second later; ten are warm-up."""
    answers = [answer(number, T0 + number * 0.1 + 0.5) for number in range(80)]
    pages = [page(T0 + 1.5, calls=2), page(T0 + 5, calls=5), page(T0 + 8.5, calls=10)]
    fields: dict[str, object] = {
        "run": "bench-1",
        "began": datetime(2026, 1, 31, tzinfo=UTC),
        "parameters": {"plan": {"rate": 10.0}, "settings": {"store": {"secret_key": "**"}}},
        "machine": Machine("a processor", 2, 8.0, "Linux", "CPython", 0.5, {"speechmill": "0"}),
        "paced": True,
        "start": answers[9].at,
        "end": answers[79].at,
        "due": [T0 + number * 0.1 for number in range(80)],
        "sent": [T0 + number * 0.1 + 0.001 for number in range(80)],
        "urgent": set(),
        "answers": answers,
        "counted": answers[10:],
        "repeated": 0,
        "before": {"one": pages[0]},
        "after": {"one": pages[-1]},
        "pages": {"one": pages},
        "cores": {"bench": 0.1},
    }
    return Seen(**(fields | changes))  # type: ignore[arg-type]


def test_rates_are_of_the_window() -> None:
    found = figures(seen())

    assert found.requests == 70
    assert found.uncounted == 10
    assert found.window_s == pytest.approx(7.0)
    assert found.requests_per_s == pytest.approx(10.0)
    assert found.audio_per_s == pytest.approx(30.0)
    assert found.rtf == pytest.approx(0.01)
    assert found.statuses == {"completed": 70}


def test_latency_counts_from_when_a_request_was_due() -> None:
    found = figures(seen(sent=[T0 + number * 0.1 + 0.3 for number in range(80)]))

    assert found.latency_s is not None
    assert found.latency_s.p50 == pytest.approx(0.5)
    assert found.sender_late_s is not None
    assert found.sender_late_s.most == pytest.approx(0.3)
    assert len(found.latency_curve) == 103


def test_urgent_requests_are_reported_apart() -> None:
    answers = [answer(n, T0 + n * 0.1 + (0.1 if n % 10 == 0 else 0.5)) for n in range(80)]
    found = figures(seen(answers=answers, counted=answers[10:], urgent=set(range(0, 80, 10))))

    assert found.urgent_latency_s is not None
    assert found.latency_s is not None
    assert (found.urgent_latency_s.count, found.latency_s.count) == (7, 63)
    assert found.urgent_latency_s.most == pytest.approx(0.1)


def test_the_device_is_what_its_workers_counted() -> None:
    found = figures(seen())

    assert found.device is not None
    assert found.device.lanes == 2
    assert found.device.calls == 8
    assert found.device.batch_mean == pytest.approx(8)
    assert found.device.batch_sizes == [(8, 8)]
    assert found.device.padding_share == pytest.approx(0.25)
    assert found.device.busy_share == pytest.approx(8 * 0.5 / 2 / 7)
    assert found.device.audio_per_s == pytest.approx(8 * 24 / 7)
    (worker,) = found.workers
    assert worker.requests == 64
    assert worker.busy_share == pytest.approx(found.device.busy_share)


def test_processor_time_is_shared_out_to_requests() -> None:
    found = figures(seen())

    assert found.cpu is not None
    assert found.cpu.stages_ms == {"put": pytest.approx(2.0)}
    assert found.cpu.total_ms == pytest.approx(found.cpu.other_ms + 2.0, abs=2.0)
    assert found.cpu.cores["bench"] == 0.1


def test_without_metrics_the_rest_is_known() -> None:
    found = figures(seen(before={}, after={}, pages={}))

    assert found.device is None
    assert found.cpu is None
    assert found.workers == []
    assert all(moment.busy_share is None for moment in found.series)
    assert found.requests == 70


def test_lag_is_what_is_due_and_not_answered() -> None:
    found = figures(seen())
    inside = [moment for moment in found.series if 1 <= moment.at <= 6]

    # Half a second of ten requests a second, at every moment.
    assert all(4 <= moment.lag_requests <= 6 for moment in inside)
    assert all(12 <= moment.lag_audio_s <= 18 for moment in inside)
    assert found.series[-1].at == pytest.approx(found.window_s)


def test_failures_have_codes_and_no_speed() -> None:
    answers = [
        answer(number, T0 + number, status="failed", code="ENGINE_FAILED", audio_s=0.0)
        for number in range(80)
    ]
    found = figures(seen(answers=answers, counted=answers))

    assert found.codes == {"ENGINE_FAILED": 80}
    assert found.rtf is None
    assert found.queued_s is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_percentiles_are_in_order(values: list[float]) -> None:
    spread = Spread.of(values)

    assert spread is not None
    assert min(values) <= spread.p50 <= spread.p95 <= spread.p99 <= spread.most == max(values)


def test_percentiles_are_interpolated() -> None:
    spread = Spread.of([float(value) for value in range(101)])

    assert spread == Spread(101, 50.0, 50.0, 95.0, 99.0, 100.0)
    assert Spread.of([]) is None


def test_json_gives_the_same_back() -> None:
    found = figures(seen())

    assert Result.from_json(found.to_json()) == found


def test_the_table_names_what_was_measured() -> None:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(rendered(figures(seen(repeated=3))))
    text = console.export_text()

    for expected in ("device busy", "batch", "padding", "p50 / p95 / p99", "put", "a processor"):
        assert expected in text
    assert "answered twice" in text


def test_the_page_has_each_section_and_needs_nothing_beside_it() -> None:
    found = figures(seen(parameters={"plan": {"rate": 1.0, "texts": "<b>&"}}))
    html = report(found)

    for title in (
        "Figures", "Throughput over time", "Latency", "Lag over time", "Batch sizes", "Parameters",
        "Device busy share over time", "Processor time a request", "Workers", "Machine",
    ):  # fmt: skip
        assert f"<h2>{title}</h2>" in html
    assert html.count("<svg") == html.count("</svg>") == 6
    assert "&lt;b&gt;&amp;" in html
    for reference in ('src="', "<script", "@import", "<link"):
        assert reference not in html


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"speechmill\[bench\]"):
        plots.require()
    assert importlib.util.find_spec("matplotlib") is not None


def test_what_is_under_way_counts_as_busy() -> None:
    metrics = Metrics()
    metrics.busy_seconds.inc(2)
    metrics.under_way_seconds.set(0.25)

    assert Page.parse(metrics.exposition().decode(), 0).busy_s == pytest.approx(2.25)
