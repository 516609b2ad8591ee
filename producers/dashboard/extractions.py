"""The views on extractions: publishers, one of them, HTTP errors by the hour, methods, and the rows behind a figure."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..destination import Destination
from ..extraction import ComprehensiveExtractionTelemetry, trends
from ..extraction.metrics import NO_RESPONSE_TYPE
from ..reports import extraction as reports
from ..reports.opening import open_store
from ..reports.report import Report
from .asking import BadQuestion
from .charts import stacked, within
from .pages import days_of, page

#: Of the heat map.
MOST_PUBLISHERS = 200

_logger = logging.getLogger(__name__)


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
        chosen = {name: asked[name] for name in ("publisher", "method", "status") if name in asked}
        chosen |= within(asked.get("hour"), asked.get("hours"))
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
    """By the names of statuses."""
    return stacked(
        {
            hour: {NO_RESPONSE_TYPE if status is None else str(status): count for status, count in counts.items()}
            for hour, counts in errors.items()
        },
        days,
    )
