"""The figures of an overview: the last whole hour of extractions against the same hour a week ago.

They are read from hourly rollups where there are, and so are cheap enough to be asked for by a scraper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import and_, func, select

from .columns import Moment, from_moment
from .destination import Destination, Reading
from .extraction.counting import Part, Rolled, has_rollups
from .extraction.metrics import NO_RESPONSE_TYPE, error_class
from .extraction.schema import LEAST_ERROR_STATUS, NO_RESPONSE
from .extraction.tables import EXTRACTIONS
from .histogram import quantile
from .values import utc_now, utc_text

Period = Literal["last_hour", "week_ago"]
_PERIODS: dict[Period, timedelta] = {"last_hour": timedelta(0), "week_ago": timedelta(days=7)}
QUANTILES = (0.5, 0.95)


@dataclass(frozen=True)
class Series:
    """One sample of a gauge: its name, what it is, its labels, its value."""

    name: str
    about: str
    labels: tuple[tuple[str, str], ...]
    value: float


def overview(destination: Destination, now: datetime | None = None) -> list[Series]:
    """Per period, `last_hour` and `week_ago`: extractions, successes, what failed by its kind, durations in seconds.

    The last hour is the last whole one of the clock in UTC: a value does not change, unless rows come late. There is no
    duration where nothing was timed.
    """
    hour = (now or utc_now()).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    rolled = has_rollups(destination)
    with destination.snapshot() as reading:
        return [
            series for period, before in _PERIODS.items() for series in _of_hour(reading, period, hour - before, rolled)
        ]


def _of_hour(reading: Reading, period: Period, hour: datetime, rolled: bool) -> Iterator[Series]:
    part = _part(hour, rolled)
    label = ("period", period)
    found = part.sums("status").subquery()
    query = select(found.c.status, func.sum(found.c.extractions), func.sum(found.c.successes)).group_by(found.c.status)
    extractions = successes = 0
    errors: dict[str, int] = dict.fromkeys(
        ("3xx_redirect", "4xx_client_error", "5xx_server_error", NO_RESPONSE_TYPE), 0
    )
    for status, count, good in reading.read(query):
        extractions += count
        successes += good
        if status == NO_RESPONSE or status >= LEAST_ERROR_STATUS:
            errors[error_class(status) or NO_RESPONSE_TYPE] += count
    yield Series("telemetry_extractions", "Extractions of an hour.", (label,), extractions)
    yield Series("telemetry_extraction_successes", "Extractions of an hour that succeeded.", (label,), successes)
    for kind, count in errors.items():
        labels = (label, ("error_type", kind))
        yield Series("telemetry_extraction_errors", "HTTP errors of an hour, by their kind.", labels, count)
    bucketed = part.durations().subquery()
    counts = dict(reading.read(select(bucketed.c.bucket, func.sum(bucketed.c.extractions)).group_by(bucketed.c.bucket)))
    for share in QUANTILES:
        if (duration_ms := quantile(counts, share)) is not None:
            labels = (label, ("quantile", str(share)))
            about = "Durations of an hour's extractions."
            yield Series("telemetry_extraction_duration_seconds", about, labels, duration_ms / 1000)


def _part(hour: datetime, rolled: bool) -> Part:
    """The extractions of an hour."""
    begin, end = utc_text(hour), utc_text(hour + timedelta(hours=1))
    row = EXTRACTIONS.c
    within = and_(Moment(row.created_at) >= begin, Moment(row.created_at) < end)
    if not rolled:
        return Part(and_(from_moment(row.created_at, begin), within))
    return Part(and_(row.rollup_hour.is_(None), within), Rolled(begin, end))
