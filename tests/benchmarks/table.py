"""The figures of the README's table: each printed with what it is to reach.

``python -m tests.benchmarks.table [ROW ...]`` starts Apache Kafka and MinIO on loopback, makes each
row ``ROUNDS`` times (5) and prints the medians. No test asserts them.
"""

import os
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from processor.bench.machine import describe
from processor.bench.plan import Lengths, Plan
from processor.bench.result import Result
from processor.bench.run import run
from processor.settings import cores, load
from tests.benchmarks.drain import Way, compare
from tests.benchmarks.memory import peak_mb
from tests.services.kafka import KafkaCluster
from tests.services.minio import MinioServer

ROUNDS = int(os.environ.get("ROUNDS", "5"))
BATCH = 16
BASE_MS, ITEM_MS = 180.0, 15.0
#: Texts of one sentence, three seconds of audio each.
THREE_SECONDS = Lengths(median=50, spread=1)

_say = sys.stdout.write


@dataclass(frozen=True)
class Services:
    """Where they are, and which processes are theirs."""

    groups: dict[str, dict[str, Any]]
    pids: dict[str, int]

    @property
    def environment(self) -> dict[str, str]:
        return {
            f"SPEECHMILL_{group.upper()}__{name.upper()}": str(value)
            for group, values in self.groups.items()
            for name, value in values.items()
        }


@contextmanager
def services() -> Iterator[Services]:
    """Apache Kafka, as fast as it gets, and a MinIO server."""
    with KafkaCluster(fast_start=False) as kafka, MinioServer() as store:
        groups: dict[str, dict[str, Any]] = {
            "kafka": {"bootstrap": kafka.bootstrap, "session_timeout_ms": 6000},
            "store": {
                "endpoint": f"http://{store.endpoint}",
                "access_key": store.access_key,
                "secret_key": store.secret_key,
            },
        }
        pids = {"kafka": kafka.pids[0]} | ({"minio": store.pid} if store.pid else {})
        yield Services(groups, pids)


def simulated(*, batch: int = BATCH, **device: float) -> dict[str, dict[str, Any]]:
    """Settings of a device of so much a call and a segment."""
    return {
        "engine": {"name": "simulated", "max_batch": batch},
        "simulated": {"base_ms": BASE_MS, "item_ms": ITEM_MS, **device},
    }


def measured(where: Services, plan: Plan, groups: dict[str, dict[str, Any]]) -> Result:
    overrides = {
        name: where.groups.get(name, {}) | groups.get(name, {}) for name in {*where.groups, *groups}
    }
    return run(load(overrides=overrides), plan, pids=where.pids)


def medians(make: Callable[[], dict[str, float]], rounds: int = ROUNDS) -> dict[str, float]:
    found = [make() for _ in range(rounds)]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def row(what: str, figure: str, aim: str) -> None:
    _say(f"{what:68} {figure:>26}   to reach: {aim}\n")
    sys.stdout.flush()


# -- the rows -----------------------------------------------------------------------------------


def device(where: Services) -> None:
    """How much of the time the device is at work, and what it costs the host."""
    for share, apart, aim in ((0.0, False, 0.98), (0.5, False, 0.95), (0.5, True, 0.95)):
        limit = BATCH / (BASE_MS + ITEM_MS * BATCH) * 1000

        def once(
            share: float = share, limit: float = limit, apart: bool = apart
        ) -> dict[str, float]:
            plan = Plan(seconds=15, lengths=THREE_SECONDS, warm_up_s=4)
            groups = simulated(bytecode_share=share)
            groups["engine"]["apart"] = apart
            result = measured(where, plan, groups)
            assert result.device is not None
            assert result.cpu is not None
            calls_a_s = result.device.calls / result.window_s
            made = calls_a_s * result.device.batch_mean
            engine = result.cpu.stages_ms.get("engine", 0.0)
            return {
                "busy": result.device.busy_share,
                "made": made / limit,
                "batch": result.device.batch_mean,
                "around": result.cpu.total_ms - engine,
                **{f"cpu {name}": ms for name, ms in result.cpu.stages_ms.items()},
                "cpu other": result.cpu.other_ms,
            }

        found = medians(once)
        half = ", half of it in bytecode" if share else ""
        half += ", engine apart" if apart else ""
        row(f"device busy{half}", f"{found['busy']:.3f}", f">= {aim}")
        row(f"throughput / the device's limit{half}", f"{found['made']:.3f}", ">= 0.97")
        if not share:
            row("host CPU a request around the engine", f"{found['around']:.2f} ms", "<= 4 ms")
            stages = {n[4:]: ms for n, ms in found.items() if n.startswith("cpu ")}
            _say("    " + ", ".join(f"{n} {ms:.2f}" for n, ms in stages.items()) + "\n")


def peers(where: Services) -> None:
    """Against loops that do not overlap, and one at a time."""
    environment = where.environment
    ours = _variables(simulated())
    ways = [Way("speechmill", 480), Way("plain", 480), Way("faststream", 480)]
    found = compare(environment, ours, ways, ROUNDS)
    for name in ("plain", "faststream"):
        row(
            f"against {name}, batch {BATCH}",
            f"{found['speechmill'] / found[name]:.2f} x",
            ">= 1.3 x",
        )
    # The device of the web page: 1.5 s for one, 2.4 s for ten.
    page = _variables(simulated(base_ms=1400, item_ms=100))
    ways = [Way("speechmill", 112), Way("one-at-a-time", 12)]
    found = compare(environment, page, ways, ROUNDS)
    ratio = found["speechmill"] / found["one-at-a-time"]
    row("against one at a time, 1.4 s + 0.1 s a segment, batch 16", f"{ratio:.2f} x", ">= 8 x")


def scale(where: Services) -> None:
    """Sixteen workers against one, each with a device of four requests a second."""
    slow = simulated(batch=1, base_ms=250, item_ms=0)
    slow["kafka"] = {"partitions": 32}
    slow["worker"] = {"window_requests": 32}

    def once() -> dict[str, float]:
        rates = []
        for workers in (1, 16):
            plan = Plan(seconds=15, workers=workers, lengths=THREE_SECONDS, warm_up_s=4)
            rates.append(measured(where, plan, slow).requests_per_s)
        return {"one": rates[0], "ratio": rates[1] / rates[0]}

    found = medians(once)
    row(
        f"16 workers against 1 ({found['one']:.2f} requests/s)",
        f"{found['ratio']:.2f} x",
        ">= 15.2 x",
    )


def urgent(where: Services) -> None:
    """Urgent requests while the bulk topic is saturated."""

    def once() -> dict[str, float]:
        plan = Plan(seconds=30, lengths=THREE_SECONDS, warm_up_s=4, urgent=0.05)
        result = measured(where, plan, simulated())
        assert result.urgent_latency_s is not None
        assert result.device is not None
        return {
            "p99": result.urgent_latency_s.p99,
            "p50": result.urgent_latency_s.p50,
            "batches": result.urgent_latency_s.p99 / result.device.call_s,
        }

    found = medians(once)
    figure = f"{found['batches']:.2f} batches ({found['p99']:.2f} s)"
    row("p99 of urgent requests, bulk saturated", figure, "<= 2 batch times")


def users(where: Services) -> None:
    """Ten users at once on the device of the web page."""

    def once() -> dict[str, float]:
        plan = Plan(requests=10, rate=1000, lengths=THREE_SECONDS, warm_up_s=0)
        result = measured(where, plan, simulated(base_ms=1400, item_ms=100))
        assert result.latency_s is not None
        return {"last": result.latency_s.most}

    found = medians(once)
    row("ten users at once, 1.5 s of work each alone: the last", f"{found['last']:.2f} s", "<= 4 s")


def hibari(where: Services) -> None:
    """End to end, all cores shared with the services, against the engine alone."""
    from tests.benchmarks.hibari_lanes import tight_loop

    def once() -> dict[str, float]:
        alone = tight_loop(cores())
        plan = Plan(seconds=20, lengths=Lengths(median=100, spread=1.6), warm_up_s=4)
        result = measured(where, plan, {"engine": {"name": "hibari"}})
        assert result.cpu is not None
        services = sum(result.cpu.cores.get(name, 0.0) for name in ("kafka", "minio", "bench"))
        return {"ratio": result.audio_per_s / alone, "alone": alone, "services": services}

    found = medians(once)
    what = f"hibari against itself alone ({found['alone']:.0f} x realtime)"
    row(what, f"{found['ratio']:.2f}", ">= 0.80")
    _say(f"    the services and the bench took {found['services']:.2f} of {cores()} cores\n")


def memory(where: Services) -> None:
    """A worker's memory by what waits."""
    environment = where.environment | _variables(simulated(base_ms=20, item_ms=2))

    def once() -> dict[str, float]:
        few = peak_mb(environment, 1000, 15)
        many = peak_mb(environment, 1_000_000, 15)
        return {"few": few, "ratio": many / few}

    found = medians(once, min(ROUNDS, 3))
    what = f"memory, 1,000,000 waiting against 1,000 ({found['few']:.0f} MB)"
    row(what, f"{found['ratio']:.3f} x", "<= 1.05 x")


def _variables(groups: dict[str, dict[str, Any]]) -> dict[str, str]:
    return Services(groups, {}).environment


ROWS = {f.__name__: f for f in (device, peers, scale, urgent, users, hibari, memory)}


def main() -> None:
    chosen = sys.argv[1:] or list(ROWS)
    machine = describe()
    _say(
        f"{machine.processor}, {machine.cores} cores, load {machine.load_before} before; "
        f"Apache Kafka and MinIO on the same machine; medians of {ROUNDS}\n"
    )
    with services() as where:
        for name in chosen:
            ROWS[name](where)


if __name__ == "__main__":
    main()
