"""What the stored extractions say over time and beside each other: days, hours, methods by publisher, samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Text, and_, cast, func, or_, select

from producers.columns import Moment
from producers.destination import Destination

from .counting import Part
from .metrics import NO_RESPONSE_TYPE
from .schema import LEAST_ERROR_STATUS, NO_RESPONSE
from .tables import EXTRACTIONS, METHOD_ROLLUPS

#: Of samples so many are told.
MOST_SAMPLES = 50
_DAY_LETTERS = 10
_SAMPLE = (
    *("created_at", "publisher", "host", "url", "http_status_code", "successful_method", "is_success"),
    *("total_duration_ms", "error_type", "error_message"),
)


@dataclass
class Days:
    """Extractions and successes of a publisher, by day."""

    extractions: dict[str, int] = field(default_factory=dict)
    successes: dict[str, int] = field(default_factory=dict)

    def rates(self) -> Iterator[float]:
        """The rate of success of each day with extractions, in their order."""
        for day in sorted(self.extractions):
            yield self.successes[day] / self.extractions[day]

    def change(self) -> float | None:
        """The rate of the newer half of the days less that of the older half; None when one of them has none."""
        days = sorted(self.extractions)
        older, newer = days[: len(days) // 2], days[len(days) // 2 :]
        return self._rate(newer) - self._rate(older) if older else None

    def _rate(self, days: list[str]) -> float:
        return sum(self.successes[day] for day in days) / sum(self.extractions[day] for day in days)


def days_of_publishers(destination: Destination, days: float | None) -> dict[str | None, Days]:
    """By publisher; None is the one without a name."""
    found = Part.of(destination, days).sums("hour", "publisher").subquery()
    day = func.substr(cast(found.c.hour, Text), 1, _DAY_LETTERS)
    query = select(found.c.publisher, day, func.sum(found.c.extractions), func.sum(found.c.successes)).group_by(
        found.c.publisher, day
    )
    publishers: dict[str | None, Days] = {}
    for publisher, of_day, extractions, successes in destination.read(query):
        known = publishers.setdefault(publisher or None, Days())
        known.extractions[of_day], known.successes[of_day] = extractions, successes
    return publishers


def errors_by_hour(
    destination: Destination, days: float | None, publisher: str | None = None
) -> dict[str, dict[int | None, int]]:
    """HTTP errors by hour, a text, and by status; None is no response."""
    found = Part.of(destination, days, publisher).sums("hour", "status").subquery()
    hour, status = func.substr(cast(found.c.hour, Text), 1, 13), found.c.status
    query = (
        select(hour, status, func.sum(found.c.extractions))
        .where(or_(status >= LEAST_ERROR_STATUS, status == NO_RESPONSE))
        .group_by(hour, status)
    )
    hours: dict[str, dict[int | None, int]] = {}
    for of_hour, code, extractions in destination.read(query):
        hours.setdefault(of_hour, {})[code or None] = extractions
    return hours


def methods_by_publisher(destination: Destination, days: float | None) -> dict[str, dict[str, tuple[int, int]]]:
    """How often each method came to its end, and with success: by publisher and method, of what is in rollups."""
    part = Part.of(destination, days)
    if part.rolled is None:
        return {}
    row = METHOD_ROLLUPS.c
    query = (
        select(row.publisher, row.method, func.sum(row.ended), func.sum(row.successes))
        .where(part.rolled.within(METHOD_ROLLUPS))
        .group_by(row.publisher, row.method)
    )
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for publisher, method, ended, successes in destination.read(query):
        if ended:
            found.setdefault(publisher, {})[method] = (ended, successes)
    return found


def samples(
    destination: Destination,
    *,
    publisher: str | None = None,
    method: str | None = None,
    status: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> list[dict[str, Any]]:
    """The newest extractions that are so, from `since` to before `until`; `status` is a number or
    `NO_RESPONSE_TYPE`."""
    row = EXTRACTIONS.c
    wanted = []
    if publisher is not None:
        wanted.append(func.coalesce(row.publisher, "") == publisher)
    if method is not None:
        wanted.append(row.methods_attempted.contains(f'"{method}"', autoescape=True))
    if status == NO_RESPONSE_TYPE:
        wanted.append(and_(func.coalesce(row.http_status_code, 0) == 0, ~func.coalesce(row.is_success, False)))
    elif status is not None:
        wanted.append(row.http_status_code == int(status))
    if since is not None:
        wanted.append(Moment(row.created_at) >= since)
    if until is not None:
        wanted.append(Moment(row.created_at) < until)
    query = select(*(row[name] for name in _SAMPLE)).where(*wanted).order_by(row.id.desc()).limit(MOST_SAMPLES)
    return destination.read_dicts(query)
