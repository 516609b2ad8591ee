"""The views on crawling: outcomes of discovery over time, runs and their failures, operations that run."""

from __future__ import annotations

import logging
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from ..destination import Destination
from ..operations import timeline
from ..reports import crawling as reports
from ..reports.opening import open_store
from ..values import utc_now, utc_text
from .charts import stacked, within
from .pages import days_of, page

_logger = logging.getLogger(__name__)


class Crawling:
    """The pages on discovery and operations of a database."""

    def __init__(self, database: str | None) -> None:
        self._database = database

    def discovery(self, request: Request) -> Response:
        """When which outcomes came, what each run brought, and the sources, worst first."""
        days, source = days_of(request), request.query_params.get("source") or None
        since = _since(days)
        with open_store(self._database) as store:
            destination = Destination(store, logger=_logger)
            outcomes = timeline.outcomes_by_hour(destination, since, source)
            runs = timeline.runs(destination, since, source)
            sources = reports.discovery(destination, since=since, source=source)
        return page(
            "discovery.html",
            "Discovery",
            days=days,
            source=source,
            chart=stacked(outcomes, days, timeline.GOOD_OUTCOMES),
            runs=runs,
            sources=sources.rows,
        )

    def attempts(self, request: Request) -> Response:
        """Single attempts: those of a run, a source, an outcome, a bar of the chart; of them those that failed."""
        asked = request.query_params
        chosen = {name: asked[name] for name in ("operation", "source", "outcome") if asked.get(name)}
        failed, times = asked.get("failed") == "1", within(asked.get("hour"), asked.get("hours"))
        with open_store(self._database) as store:
            found = timeline.attempts(Destination(store, logger=_logger), failed=failed, **chosen, **times)
        return page(
            "attempts.html",
            "Failed attempts" if failed else "Attempts of discovery",
            chosen=chosen | times,
            asked={name: value for name, value in asked.items() if name != "failed"},
            failed=failed,
            attempts=found,
            most=timeline.MOST_ATTEMPTS,
        )

    def operations(self, request: Request) -> Response:
        """Those that run, with their pace, and the last ones."""
        days = days_of(request)
        with open_store(self._database) as store:
            destination = Destination(store, logger=_logger)
            running = timeline.running(destination)
            last = reports.operations(destination, since=_since(days))
        return page("operations.html", "Operations", days=days, running=running, last=last.rows)


def _since(days: float) -> str:
    return utc_text(utc_now() - timedelta(days=days))
