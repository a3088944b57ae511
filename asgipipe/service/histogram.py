"""How long runs took, in buckets: small enough to share between processes, fine enough for quantiles."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final


def _decade(exponent: int) -> Iterator[float]:
    # 23 steps, each below 11 %, that meet 1, 2.5 and 5 exactly: Prometheus buckets with these edges are exact sums.
    for first, ratio, steps in ((1.0, 2.5, 9), (2.5, 2.0, 7), (5.0, 2.0, 7)):
        for step in range(steps):
            yield float(f"{first * ratio ** (step / steps):.5g}e{exponent}")


BOUNDS: Final = (*(bound for exponent in range(-5, 5) for bound in _decade(exponent)), 1e5)
"""Upper edges of the buckets in seconds, inclusive, from 10 microseconds to 100,000 s; one more bucket is open."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations of runs: `counts` has one number per bucket (see `BOUNDS`), `seconds` is the sum of all durations."""

    counts: Sequence[int]
    seconds: float

    def at_most(self, bounds: Sequence[float]) -> list[int]:
        """Return for each of `bounds`, which must be among `BOUNDS`, how many durations it is the upper edge of."""
        cumulative = list(accumulate(self.counts))
        return [cumulative[BOUNDS.index(bound)] for bound in bounds]

    def quantile(self, q: float) -> float | None:
        """Return the duration in seconds that the share `q` of the runs did not exceed; None without runs.

        It lies in the same bucket as the exact value, so it is at most 11 % off above 10 microseconds; beyond
        100,000 s it is 100,000 s.
        """
        cumulative = list(accumulate(self.counts))
        total = cumulative[-1]
        if not total:
            return None
        rank = max(1, math.ceil(q * total))
        index = bisect_left(cumulative, rank)
        if index == len(BOUNDS):
            return BOUNDS[-1]
        lower = BOUNDS[index - 1] if index else 0.0
        # The runs of a bucket stand at equal distances in it, half of one from its edges.
        share = (rank - cumulative[index] + self.counts[index] - 0.5) / self.counts[index]
        return lower + (BOUNDS[index] - lower) * share
