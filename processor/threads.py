"""How threads share the processor, in one place: cores between lanes, the interpreter between all.

An engine on the processor has a lane for each core. If each lane's libraries used a thread for each
core, too, they would be as many as the square of that, and slower than one.

A thread that runs Python keeps the interpreter for 5 ms by default before it lets another one in.
An engine whose decode loop is Python would hold up every call to the store, which needs it a dozen
times, by that much each time; ``make bench`` has the figure.

And the C library keeps a heap for each thread, and what one thread frees of its own is not given to
another: with audio going through a dozen threads, that is many times the audio.
"""

import ctypes
import sys

import threadpoolctl

from processor.settings import cores

__all__ = ["share_cores", "share_heap", "share_interpreter"]

_TURN_S = 0.0005
_M_ARENA_MAX = -8  # of mallopt(3)
_ARENAS = 1


def share_cores(lanes: int) -> int:
    """Let the libraries loaded so far (BLAS, OpenMP) use this lane's share of the cores: returned.

    An engine whose runtime has threads of its own (onnxruntime, torch) is given the same share when
    it is made.
    """
    share = max(1, cores() // lanes)
    threadpoolctl.threadpool_limits(share)
    return share


def share_interpreter() -> None:
    """Let threads that wait for I/O in at once, also while an engine runs Python."""
    sys.setswitchinterval(_TURN_S)


def share_heap() -> bool:
    """Let all threads allocate from one heap. False where the C library has no such option.

    To be called before there are other threads. They rarely wait for each other there, as the
    interpreter lets one in at a time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, _ARENAS))
