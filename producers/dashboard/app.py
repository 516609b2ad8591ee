"""The pages and what they are made from: each request opens the database, reads, and lets go of it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..destination import Destination
from ..extraction import ComprehensiveExtractionTelemetry
from ..overview import Series, overview
from ..reports.catalogue import REPORTS, make_report
from ..reports.opening import open_store
from ..reports.rendering import render
from ..reports.report import Report
from .access import Access
from .asking import arguments, ordered
from .bus import Unanswered, ask
from .bylines import Bylines
from .crawling import Crawling
from .extractions import Extractions
from .forms import Forms
from .letters import DeadLetters
from .live import Live
from .pages import answering, page, text_of

#: A page has at most these rows; what is downloaded has all.
MOST_ROWS = 500

_logger = logging.getLogger(__name__)


def make_app(database: str | None, token: str | None = None) -> Starlette:
    """The application. It keeps nothing between requests."""
    forms = Forms()
    extractions, crawling, live = Extractions(database), Crawling(database), Live(database)
    bylines, letters = Bylines(database, forms), DeadLetters(database, forms)
    views = {
        "/": lambda request: _overview(database),
        "/publishers": extractions.publishers,
        "/publisher": extractions.publisher,
        "/errors": extractions.errors,
        "/methods": extractions.methods,
        "/samples": extractions.samples,
        "/bylines": bylines.cleanings,
        "/bylines/{id:path}": bylines.cleaning,
        "/discovery": crawling.discovery,
        "/discovery/attempts": crawling.attempts,
        "/operations": crawling.operations,
        "/queue": lambda request: _queue(database),
        "/dead-letters": letters.groups,
        "/dead-letters/question": letters.question,
        "/dead-letters/{id}": letters.group,
        "/live": live.page,
        "/reports/{name}": lambda request: _report(database, request),
        "/metrics": lambda request: PlainTextResponse(_exposition(_series(database)), media_type=_EXPOSITION),
        "/healthz": lambda request: _healthy(database),
    }
    routes = [
        *(Route(address, answering(view)) for address, view in views.items()),
        Route("/dead-letters/order", forms.taken(letters.act), methods=["POST"]),
        Route("/bylines/label", forms.taken(bylines.label), methods=["POST"]),
        Route("/live/rows", live.rows),
        Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Access, token=token)])


def _overview(database: str | None) -> Response:
    series = _series(database)
    try:
        state = ask(database, "status")
    except Unanswered as error:
        state = {"state": "not known", "last_error": str(error)}
    return page("overview.html", "Overview", tiles=_tiles(series), state=state)


def _queue(database: str | None) -> Response:
    state = ask(database, "status")
    commit = state.get("commit_ms") or {}
    figures = [
        ("jobs wait", text_of("count", state.get("pending_jobs"))),
        ("bytes wait", text_of("count", sum(stream["pending_bytes"] for stream in state.get("streams", ())))),
        ("jobs committed since it started", text_of("count", state.get("jobs_committed"))),
        ("a commit, p99", text_of("duration", commit.get("p99"))),
        ("jobs dropped by producers", text_of("count", state.get("jobs_dropped"))),
        ("dead letters", text_of("count", state.get("dead_letters"))),
    ]
    return page("queue.html", "Queue", state=state, figures=figures)


def _report(database: str | None, request: Request) -> Response:
    name, asked = request.path_params["name"], dict(request.query_params)
    given = arguments(name, asked)
    with open_store(database) as store:
        telemetry = ComprehensiveExtractionTelemetry(store=store)
        report = make_report(name, given, telemetry, Destination(store, logger=_logger))
    if given.format != "table":
        return _download(name, report, given.format)
    rows = ordered(report, asked.get("sort", ""))
    keys = [option.removeprefix("--") for option in REPORTS[name][1]]
    return page(
        "report.html",
        report.title,
        report=report,
        heads=[(column.heading, column.kind, _query(request, sort=_turned(column.key, asked)))
               for column in report.columns],
        rows=[[(text_of(column.kind, row.get(column.key)), column.kind) for column in report.columns]
              for row in rows[:MOST_ROWS]],
        options=[(key, asked.get(key, "")) for key in keys],
        downloads={form: _query(request, format=form) for form in ("csv", "json")},
    )  # fmt: skip


def _query(request: Request, **changed: str) -> str:
    return request.url.include_query_params(**changed).query


def _turned(key: str, asked: dict[str, str]) -> str:
    return f"-{key}" if asked.get("sort") == key else key


def _download(name: str, report: Report, form: Any) -> Response:
    text = io.StringIO()
    render(report, form, text, spreadsheet=True)
    kind = "application/json" if form == "json" else "text/csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
    return Response(text.getvalue().encode("utf-8", "backslashreplace"), media_type=kind, headers=headers)


def _series(database: str | None) -> list[Series]:
    with open_store(database) as store:
        return overview(Destination(store, logger=_logger))


def _healthy(database: str | None) -> Response:
    with open_store(database) as store, store.connection() as connection:
        connection.execute("SELECT 1").fetchone()
    return PlainTextResponse("ok\n")


def _tiles(series: Iterable[Series]) -> list[tuple[str, dict[str, str]]]:
    """What is measured, and its value per period."""
    tiles: dict[str, dict[str, str]] = {}
    for one in series:
        labels = dict(one.labels)
        period = labels.pop("period")
        what = " ".join([one.name.removeprefix("telemetry_").removesuffix("_seconds"), *labels.values()])
        timed = one.name.endswith("_seconds")
        value = text_of("duration", one.value * 1000) if timed else text_of("count", round(one.value))
        tiles.setdefault(_WORDS.get(what, what), {})[period] = value
    return list(tiles.items())


_WORDS = {
    "extraction_successes": "succeeded",
    "extraction_errors 3xx_redirect": "redirects",
    "extraction_errors 4xx_client_error": "errors of the client (4xx)",
    "extraction_errors 5xx_server_error": "errors of the server (5xx)",
    "extraction_errors no_response": "without a response",
    "extraction_duration 0.5": "took, p50",
    "extraction_duration 0.95": "took, p95",
}
_EXPOSITION = "text/plain; version=0.0.4"


def _exposition(series: Iterable[Series]) -> str:
    """In the text format of Prometheus. No label's value comes from the database."""
    families: dict[str, list[str]] = {}
    for one in series:
        family = families.setdefault(one.name, [f"# HELP {one.name} {one.about}", f"# TYPE {one.name} gauge"])
        labels = ",".join(f'{key}="{value}"' for key, value in one.labels)
        family.append(f"{one.name}{{{labels}}} {one.value}")
    return "".join(f"{line}\n" for family in families.values() for line in family)
