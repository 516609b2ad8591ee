"""The views on extractions: publishers, one of them, HTTP errors by the hour, methods, and the rows behind a figure."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from ..destination import Destination
from ..extraction import ComprehensiveExtractionTelemetry, trends
from ..extraction.metrics import NO_RESPONSE_TYPE
from ..reports import extraction as reports
from ..reports.opening import open_store
from ..reports.report import Report
from ..values import utc_now
from .asking import BadQuestion
from .pages import days_of, page

#: A bar of a chart stands for as many hours, so that there are at most so many bars.
MOST_BARS = 200
#: A chart has so many statuses of its own; the others are one.
MOST_STATUSES = 6
#: Of the heat map.
MOST_PUBLISHERS = 200
_WIDTH, _HEIGHT = 1000, 220
_HOUR = "%Y-%m-%d %H"

_logger = logging.getLogger(__name__)


class Bar(NamedTuple):
    """A part of a bar: where it stands in the chart, what it is."""

    x: float
    y: float
    width: float
    height: float
    series: int
    words: str
    hour: str


class Extractions:
    """The pages on the extractions of a database."""

    def __init__(self, database: str | None) -> None:
        self._database = database

    def publishers(self, request: Request) -> Response:
        days = days_of(request)
        with open_store(self._database) as store:
            report = reports.publishers(ComprehensiveExtractionTelemetry(store=store), days=days)
            found = trends.days_of_publishers(Destination(store, logger=_logger), days)
        rows = [(row, found.get(row["publisher"], trends.Days())) for row in report.rows]
        return page(
            "publishers.html",
            report.title,
            days=days,
            rows=[(row, _points(of_days), of_days.change()) for row, of_days in rows],
        )

    def publisher(self, request: Request) -> Response:
        """A publisher's hosts, methods, errors and newest extractions; `name` is empty for the one without a name."""
        days, name = days_of(request), request.query_params.get("name", "")
        with open_store(self._database) as store:
            telemetry, destination = ComprehensiveExtractionTelemetry(store=store), Destination(store, logger=_logger)
            hosts = reports.publishers(telemetry, publisher=name or None, days=days)
            hosts = _only(hosts, name or None)
            methods = reports.methods(telemetry, publisher=name, days=days)
            errors = trends.errors_by_hour(destination, days, name)
            samples = trends.samples(destination, publisher=name)
        return page(
            "publisher.html",
            name or "Publisher without a name",
            name=name,
            days=days,
            sections=[hosts, methods],
            chart=_chart(errors, days),
            samples=samples,
        )

    def errors(self, request: Request) -> Response:
        days = days_of(request)
        with open_store(self._database) as store:
            telemetry = ComprehensiveExtractionTelemetry(store=store)
            errors = trends.errors_by_hour(Destination(store, logger=_logger), days)
            report = reports.errors(telemetry, days=days)
        return page("errors.html", report.title, days=days, chart=_chart(errors, days), report=report)

    def methods(self, request: Request) -> Response:
        days = days_of(request)
        with open_store(self._database) as store:
            found = trends.methods_by_publisher(Destination(store, logger=_logger), days)
        tries = Counter({name: sum(ended for ended, _ in did.values()) for name, did in found.items()})
        methods = Counter[str]()
        for did in found.values():
            methods.update({name: ended for name, (ended, _) in did.items()})
        return page(
            "methods.html",
            "Methods by publisher",
            days=days,
            methods=[name for name, _ in methods.most_common()],
            rows=[(name, found[name]) for name, _ in tries.most_common(MOST_PUBLISHERS)],
            left_out=max(0, len(tries) - MOST_PUBLISHERS),
        )

    def samples(self, request: Request) -> Response:
        asked = request.query_params
        chosen = {name: asked[name] for name in ("publisher", "method", "status", "hour") if name in asked}
        status = chosen.get("status", "0")
        if status != NO_RESPONSE_TYPE and not (status.isascii() and status.isdigit() and len(status) < 10):
            raise BadQuestion(400, f"{status} is neither a status nor {NO_RESPONSE_TYPE}")
        with open_store(self._database) as store:
            found = trends.samples(Destination(store, logger=_logger), **chosen)
        return page("samples.html", "Newest extractions", chosen=chosen, samples=found)


def _only(report: Report, publisher: str | None) -> Report:
    rows = [row for row in report.rows if row["publisher"] == publisher]
    columns = tuple(column for column in report.columns if column.key != "publisher")
    return Report("Hosts", columns, rows, report.counted, report.nothing)


def _points(days: trends.Days) -> str:
    """The line of a small chart, 100 by 20."""
    rates = list(days.rates())
    step = 100 / max(1, len(rates) - 1)
    return " ".join(f"{number * step:.1f},{20 - 18 * rate:.1f}" for number, rate in enumerate(rates))


def _chart(errors: dict[str, dict[int | None, int]], days: float) -> dict[str, Any]:
    """Stacked bars: each of as many hours as make the chart readable."""
    step = max(1, -(-int(days * 24) // MOST_BARS))
    end = utc_now().replace(tzinfo=None, minute=0, second=0, microsecond=0) + timedelta(hours=1)
    begin = end - timedelta(hours=step * -(-int(days * 24 + 1) // step))
    total = Counter[int | None]()
    bars: dict[int, Counter[int | None]] = {}
    for hour, counts in errors.items():
        total.update(counts)
        number = int((datetime.strptime(hour, _HOUR) - begin) / timedelta(hours=step))
        bars.setdefault(max(0, number), Counter()).update(counts)
    statuses = [status for status, _ in total.most_common(MOST_STATUSES)]
    names = [NO_RESPONSE_TYPE if status is None else str(status) for status in statuses]
    if len(total) > MOST_STATUSES:
        names.append("others")
    highest = max((sum(counts.values()) for counts in bars.values()), default=0)
    width = _WIDTH / max(1, int((end - begin) / timedelta(hours=step)))
    parts = [
        part
        for number, counts in sorted(bars.items())
        for part in _bar(number, counts, statuses, names, begin + number * timedelta(hours=step), width, highest)
    ]
    return {
        "parts": parts,
        "names": [(name, total[status]) for name, status in zip(names, statuses, strict=False)],
        "others": sum(total.values()) - sum(total[status] for status in statuses),
        "begin": begin.strftime("%Y-%m-%d %H:00"),
        "end": end.strftime("%Y-%m-%d %H:00"),
        "highest": highest,
        "step": step,
        "size": (_WIDTH, _HEIGHT),
    }


def _bar(
    number: int,
    counts: Counter[int | None],
    statuses: list[int | None],
    names: list[str],
    begins: datetime,
    width: float,
    highest: int,
) -> Iterator[Bar]:
    of_series = [(series, counts[status]) for series, status in enumerate(statuses)]
    of_series.append((len(statuses), sum(counts.values()) - sum(count for _, count in of_series)))
    y = float(_HEIGHT)
    for series, count in of_series:
        if count:
            height = count / highest * _HEIGHT
            y -= height
            hour = begins.strftime(_HOUR)
            yield Bar(number * width, y, width * 0.9, height, series, f"{hour}:00 UTC: {count:,} {names[series]}", hour)
