"""How far behind the group is, by the broker's own word."""

import urllib.request

import pytest
from confluent_kafka import KafkaException

from processor.lag import Lag
from processor.local.child import free_port
from tests.engines import ScriptedEngine
from tests.integration.mill import Mill
from tests.waiting import eventually


def test_what_is_asked_for_and_not_answered_is_lag(mill: Mill) -> None:
    if mill.parts.kind == "embedded":
        pytest.skip("tansu reports a wrong end of its partitions")
    lag = Lag(mill.settings.kafka)
    ours = [(mill.settings.kafka.requests, number) for number in range(mill.partitions)]

    def measured() -> int | None:
        try:
            return lag.messages(ours)
        except KafkaException:  # the broker makes the topic of offsets only when it is asked for it
            return None

    eventually(lambda: measured() == 0, "an answer of the coordinator")
    assert lag.messages([]) == 0
    for number in range(10):
        mill.ask(f"Number {number}.", partition=number % 2)
    mill.flush()

    assert lag.messages(ours) == 10
    assert lag.messages(ours[:1]) == 5
    mill.start(ScriptedEngine())
    mill.completions(10)
    eventually(lambda: lag.messages(ours) == 0, "the group to catch up")


def test_a_worker_exports_its_metrics(mill: Mill) -> None:
    port = free_port()
    mill.start_process(
        "measured",
        SPEECHMILL_HEALTH__PORT=str(port),
        SPEECHMILL_HEALTH__LAG_EVERY_S="0.2",
        SPEECHMILL_ENGINE__NAME="simulated",
        SPEECHMILL_SIMULATED__BASE_MS="1",
    )
    for number in range(5):
        mill.ask(f"Number {number}.")
    mill.completions(5)

    def page() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    eventually(
        lambda: 'speechmill_requests_total{status="completed"} 5.0' in page(),
        "the count of answers",
    )
    assert 'speechmill_stage_seconds_count{stage="put"} 5.0' in page()
    assert "speechmill_audio_seconds_total" in page()
