"""A load test of the pipeline, judged by what it counts: how fast it was is no test's business."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from processor.bench.corner import Corner
from processor.bench.html import report
from processor.bench.plan import Lengths, Plan
from processor.bench.result import Result
from processor.bench.run import BenchFailed, State, run
from processor.errors import StoreError
from processor.kafka import topic_names, topic_partitions
from processor.local.child import ChildFailed
from processor.settings import Settings
from processor.store import MinioStore
from tests.engines import ScriptedEngine
from tests.integration.mill import Mill
from tests.waiting import eventually

_MAX_BATCH = 8


def simulated(mill: Mill) -> Settings:
    """A device that is quick, so that the test is."""
    return mill.with_settings(
        engine={"name": "simulated", "max_batch": _MAX_BATCH},
        simulated={"base_ms": 4, "item_ms": 1},
        worker={"name": "unused", "window_requests": 32},
    )


def test_a_saturated_run_counts_what_was_asked(mill: Mill) -> None:
    states: list[State] = []
    plan = Plan(requests=100, warm_up_s=0.2, lengths=Lengths(60, 1.4), look_every_s=0.2)
    found = run(simulated(mill), plan, tell=states.append)

    assert found.requests == 100
    assert found.statuses == {"completed": 100}
    assert (found.repeated, found.cache_hits) == (0, 0)
    assert found.uncounted >= 32  # the window was turned over once
    assert found.window_s > 0
    assert found.requests_per_s == pytest.approx(100 / found.window_s)
    assert found.latency_s is not None
    assert found.latency_s.count == 100
    # Sixty milliseconds of audio a character, by the simulated engine's own rule, and pauses.
    assert found.audio_s >= 0.06 * found.characters * 0.9
    assert {"warming up", "measuring"} <= {state.phase for state in states}

    device = found.device
    assert device is not None
    assert 1 <= device.batch_mean <= _MAX_BATCH
    assert all(size <= _MAX_BATCH for size, _ in device.batch_sizes)
    assert sum(calls for _, calls in device.batch_sizes) == device.calls
    assert 0 < device.busy_share < 1.2  # a call under way at an edge counts when it ends
    assert 0 <= device.padding_share < 1

    cpu = found.cpu
    assert cpu is not None
    assert {"decode", "plan", "look_up", "encode", "put"} <= set(cpu.stages_ms)
    assert cpu.total_ms >= sum(cpu.stages_ms.values()) * 0.9
    assert all(moment.lag_requests >= 0 for moment in found.series)

    assert Result.from_json(found.to_json()) == found
    assert json.loads(found.to_json())["parameters"]["plan"]["requests"] == 100
    html = report(found)
    for section in ("Figures", "Latency", "Lag over time", "Batch sizes", "Parameters"):
        assert f"<h2>{section}</h2>" in html


def test_a_paced_run_sends_on_schedule_and_leaves_nothing(mill: Mill) -> None:
    settings = simulated(mill)
    plan = Plan(requests=40, rate=40.0, warm_up_s=0.2, workers=2, urgent=0.25, seed=3)
    found = run(settings, plan)

    assert found.requests == 40
    assert found.latency_s is not None
    assert found.urgent_latency_s is not None
    assert found.latency_s.count + found.urgent_latency_s.count == 40
    assert found.sender_late_s is not None
    assert found.sender_late_s.count == 40
    assert len(found.workers) == 2
    assert found.parameters["settings"]["kafka"]["partitions"] == 8

    with pytest.raises(StoreError, match="there is no bucket"):
        MinioStore(settings.store.model_copy(update={"bucket": found.run})).check()
    if mill.parts.kind == "real":
        left = topic_partitions(settings.kafka, timeout_s=10)
        assert not [name for name in left if name.startswith(found.run)]


def test_workers_that_run_already_are_measured_by_their_answers(mill: Mill) -> None:
    mill.start(ScriptedEngine())
    plan = Plan(requests=20, warm_up_s=0.0, workers=0, ahead=10, texts=("One.", "Two."))
    found = run(mill.settings, plan)

    assert found.requests == 20
    assert found.cache_hits == 0  # the same texts, and yet each is spoken
    assert found.device is None
    assert found.workers == []
    # All that was sent is answered: nothing is left for the workers that go on.
    assert len(mill.completions(mill.committed())) >= 20


def test_a_topic_without_a_worker_is_said_to_be_one(mill: Mill) -> None:
    plan = Plan(requests=1, workers=0, silence_s=1, ahead=2)
    with pytest.raises(BenchFailed, match=mill.settings.kafka.requests):
        run(mill.settings, plan)


def test_every_worker_gets_as_many_partitions_as_the_others(mill: Mill) -> None:
    corner = Corner(mill.settings, f"bench-{mill.id}", workers=3)
    try:
        kafka = corner.settings.kafka

        def partitions() -> set[int]:
            there = topic_partitions(kafka, timeout_s=10)
            return {there.get(name, 0) for name in topic_names(kafka)}

        eventually(lambda: partitions() == {9}, "nine partitions of each topic")
        assert not set(topic_names(kafka)) & set(topic_names(mill.settings.kafka))
    finally:
        corner.remove()


def test_a_worker_that_can_not_start_is_the_runs_error(mill: Mill) -> None:
    broken = mill.with_settings(engine={"name": "no-such-engine"})
    with pytest.raises(ChildFailed, match="no-such-engine"):
        run(broken, Plan(requests=1))


def speechmill(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in ``folder``, with a quick device and a cache of its own."""
    quick = {
        "SPEECHMILL_SIMULATED__BASE_MS": "4",
        "SPEECHMILL_SIMULATED__ITEM_MS": "1",
        "SPEECHMILL_WORKER__WINDOW_REQUESTS": "32",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return subprocess.run(
        [sys.executable, "-m", "processor", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | quick,
        cwd=folder,
        timeout=90,
        check=False,
    )


@pytest.mark.integration
def test_the_command_prints_and_writes_its_figures(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One paragraph.\n\nAnother paragraph.\n")
    done = speechmill(
        tmp_path,
        *("bench", "--embedded", "--engine", "simulated", "--requests", "20", "--warm-up", "0"),
        *("--text", "text.txt", "--json", "figures.json", "--html", "report.html"),
    )

    assert done.returncode == 0, done.stderr
    assert "device busy" in done.stdout
    found = Result.from_json((tmp_path / "figures.json").read_bytes())
    assert found.requests == 20
    assert 20 * len("One paragraph.") < found.characters < 20 * len("Another paragraph.")
    assert found.cpu is not None
    assert {"bench", "broker", "store"} < set(found.cpu.cores)
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.integration
def test_a_calibration_is_printed_and_kept(tmp_path: Path) -> None:
    done = speechmill(
        tmp_path, "calibrate", "--engine", "simulated", "--limit", "4", "--budget", "2", "--json"
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [point["batch"] for point in found["points"]] == [1, 2, 4]
    assert found["use"] in (1, 2, 4)
    assert len(list((tmp_path / "cache" / "speechmill" / "calibration").iterdir())) == 1
    shown = speechmill(
        tmp_path, "calibrate", "--engine", "simulated", "--limit", "4", "--budget", "1"
    )
    assert "use this" in shown.stdout


@pytest.mark.integration
@pytest.mark.parametrize(
    "arguments",
    [("--requests", "1", "--seconds", "1"), ("--embedded", "--workers", "0"), ("--spread", "0")],
)
def test_what_can_not_be_measured_is_a_usage_error(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = speechmill(tmp_path, "bench", *arguments)

    assert done.returncode == 2
    assert "error: SettingsError" in done.stderr
