"""A histogram of durations: buckets that add up, so that quantiles can be told of any hours together.

The buckets are those of exponential histograms of scale 2, as in OpenTelemetry and Prometheus: each is 2^(1/4) times as
wide as the one before. A quantile is told as the geometric middle of its bucket, which is at most 9.1 % off
(`RELATIVE_ERROR`) from 1 ms to 70 minutes; what is outside counts as the nearest of these two.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from math import ceil, sqrt

GROWTH: float = 2.0**0.25
RELATIVE_ERROR = sqrt(GROWTH) - 1
#: The lower bound of each bucket but the first, in milliseconds: 1 ms to 2^22.
BOUNDS_MS: tuple[float, ...] = tuple(2.0 ** (step / 4) for step in range(22 * 4 + 1))


def bucket_of(duration_ms: float) -> int:
    """The bucket of a duration; 0 is below 1 ms."""
    return bisect_right(BOUNDS_MS, duration_ms)


def bucket_sql(column: str) -> str:
    """The same in SQL, for every database: the comparisons of `bisect_right`, nested. NULL for NULL."""

    def half(low: int, high: int) -> str:
        if low == high:
            return str(low)
        middle = (low + high) // 2
        return f"CASE WHEN {column} < {BOUNDS_MS[middle]!r} THEN {half(low, middle)} ELSE {half(middle + 1, high)} END"

    return f"CASE WHEN {column} IS NOT NULL THEN {half(0, len(BOUNDS_MS))} END"


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The duration in ms below which this share of all lies, by nearest rank; None of nothing. `counts` is by
    bucket."""
    rank = max(1, ceil(share * sum(counts.values())))
    below = 0
    for bucket in sorted(counts):
        below += counts[bucket]
        if below >= rank:
            return _middle(bucket)
    return None


def _middle(bucket: int) -> float:
    if bucket == 0:
        return BOUNDS_MS[0]
    if bucket == len(BOUNDS_MS):
        return BOUNDS_MS[-1]
    return sqrt(BOUNDS_MS[bucket - 1] * BOUNDS_MS[bucket])
