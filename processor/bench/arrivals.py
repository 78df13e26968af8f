"""When requests are due, of users who know nothing of each other."""

import random
from collections.abc import Iterator

__all__ = ["poisson"]


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Moments in seconds from the start, without end: ``rate`` a second on average, with
    exponential gaps. The same seed, the same moments."""
    dice = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    at = 0.0
    while True:
        at += dice.expovariate(rate)
        yield at
