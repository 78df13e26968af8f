"""How many threads the numeric libraries may use, in one place.

An engine on the processor has a lane for each core. If each lane's libraries used a thread for each
core, too, they would be as many as the square of that, and slower than one.
"""

import threadpoolctl

from processor.settings import cores

__all__ = ["share_cores"]


def share_cores(lanes: int) -> int:
    """Let the libraries loaded so far (BLAS, OpenMP) use this lane's share of the cores: returned.

    An engine whose runtime has threads of its own (onnxruntime, torch) is given the same share when
    it is made.
    """
    share = max(1, cores() // lanes)
    threadpoolctl.threadpool_limits(share)
    return share
