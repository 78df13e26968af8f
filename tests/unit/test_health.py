"""Alive and ready, judged from the worker's own progress."""

import json
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from processor.health import Health, Pulse, serve

pytestmark = pytest.mark.unit

WELL = Pulse(loop_age_s=0.1, call_age_s=0.5, joined=True, stopping=False, outage=None)


def verdicts(pulse: Pulse) -> tuple[bool, bool]:
    """Live, ready."""
    health = Health(lambda: pulse, call_stuck_s=60)
    return health.live()[0], health.ready()[0]


def test_a_worker_that_gets_on_is_live_and_ready() -> None:
    assert verdicts(WELL) == (True, True)


@pytest.mark.parametrize(
    "pulse",
    [
        replace(WELL, joined=False),
        replace(WELL, stopping=True),
        replace(WELL, outage="the store is away"),
    ],
)
def test_what_no_restart_would_mend_makes_it_unready_and_leaves_it_alive(pulse: Pulse) -> None:
    assert verdicts(pulse) == (True, False)


@pytest.mark.parametrize("pulse", [replace(WELL, loop_age_s=121), replace(WELL, call_age_s=61)])
def test_a_loop_or_a_device_that_is_stuck_makes_it_neither(pulse: Pulse) -> None:
    assert verdicts(pulse) == (False, False)


def test_the_endpoint_says_why_with_the_status_that_probes_read() -> None:
    server = serve(
        Health(lambda: replace(WELL, outage="no store"), 60), "127.0.0.1", 0, lambda: b"m 1\n"
    )
    url = f"http://127.0.0.1:{server.server_address[1]}"

    with urllib.request.urlopen(f"{url}/livez", timeout=5) as answer:  # noqa: S310
        assert json.load(answer) == {"live": True, "reasons": []}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/readyz", timeout=5)  # noqa: S310
    assert refused.value.code == 503
    assert json.load(refused.value)["reasons"] == ["it waits: no store"]
    with pytest.raises(urllib.error.HTTPError) as missing:
        urllib.request.urlopen(f"{url}/nothing", timeout=5)  # noqa: S310
    assert missing.value.code == 404
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:  # noqa: S310
        assert answer.read() == b"m 1\n"
    server.shutdown()
    server.server_close()
