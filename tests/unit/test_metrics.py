"""What a worker counts, as Prometheus reads it."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from processor.metrics import Metrics

pytestmark = pytest.mark.unit


def values(metrics: Metrics) -> dict[str, float]:
    """Every sample without labels, by name."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if not sample.labels
    }


def test_a_stage_is_timed_also_when_it_fails() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError), metrics.stage("decode"):
        raise KeyError
    page = metrics.exposition().decode()

    assert 'speechmill_stage_seconds_count{stage="decode"} 1.0' in page
    assert 'speechmill_stage_cpu_seconds_total{stage="decode"}' in page


def test_what_is_behind_is_measured_by_what_was_answered() -> None:
    metrics = Metrics()
    for seconds in (2.0, 4.0, 6.0):
        metrics.answered(seconds)
    metrics.behind(10)

    assert values(metrics)["speechmill_lag_messages"] == 10
    assert values(metrics)["speechmill_lag_audio_seconds"] == pytest.approx(40.0)


def test_every_metric_says_what_it_means() -> None:
    families = list(text_string_to_metric_families(Metrics().exposition().decode()))

    assert len(families) > 15
    assert all(family.documentation for family in families)


def test_two_workers_in_one_process_count_for_themselves() -> None:
    one, two = Metrics(), Metrics()
    one.pauses.inc()

    assert values(one)["speechmill_pauses_total"] == 1
    assert values(two)["speechmill_pauses_total"] == 0
