"""The numeric libraries share the cores with the lanes."""

import subprocess
import sys

import numpy as np
import pytest
import threadpoolctl

from processor.settings import cores
from processor.threads import share_cores, share_interpreter

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("lanes", [1, 1000])
def test_each_lane_has_its_share_and_at_least_one(lanes: int) -> None:
    np.zeros((2, 2)) @ np.zeros((2, 2))  # the library is loaded
    before = threadpoolctl.threadpool_info()

    share = share_cores(lanes)

    assert share == max(1, cores() // lanes)
    assert before
    assert all(pool["num_threads"] <= max(share, 1) for pool in threadpoolctl.threadpool_info())


def test_who_waits_for_io_is_let_in_at_once() -> None:
    before = sys.getswitchinterval()
    try:
        share_interpreter()
        assert sys.getswitchinterval() < before
    finally:
        sys.setswitchinterval(before)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library has no mallopt")
def test_all_threads_allocate_from_one_heap() -> None:
    said = "from processor.threads import share_heap; raise SystemExit(not share_heap())"

    assert subprocess.run([sys.executable, "-c", said], check=False).returncode == 0
