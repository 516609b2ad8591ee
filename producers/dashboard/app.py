"""The pages and what they are made from: each request opens the database, reads, and lets go of it."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..destination import Destination
from ..extraction import ComprehensiveExtractionTelemetry
from ..overview import Series, overview
from ..reports.catalogue import REPORTS, make_report
from ..reports.opening import errors_of_reading, open_store
from ..reports.rendering import render
from ..reports.report import Column, Report, Row
from ..reports.words import words
from .access import Access
from .asking import BadQuestion, arguments, ordered

#: A page has at most these rows; what is downloaded has all.
MOST_ROWS = 500
#: So are its values cut.
MOST_LETTERS = 300

_logger = logging.getLogger(__name__)
_templates = Environment(
    loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def make_app(database: str | None, token: str | None = None) -> Starlette:
    """The application. It keeps nothing between requests."""

    def overview_page(request: Request) -> Response:
        return _answered(lambda: _page("overview.html", "Overview", lines=_lines(_series(database))))

    def report_page(request: Request) -> Response:
        return _answered(lambda: _report(database, request))

    def metrics(request: Request) -> Response:
        return _answered(lambda: PlainTextResponse(_exposition(_series(database)), media_type=_EXPOSITION))

    def healthz(request: Request) -> Response:
        return _answered(lambda: _healthy(database))

    routes = [
        Route("/", overview_page),
        Route("/reports/{name}", report_page),
        Route("/metrics", metrics),
        Route("/healthz", healthz),
        Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
    ]
    return Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=Access(token))])


def _answered(make: Callable[[], Response]) -> Response:
    """What was made, or a page that says why it cannot be."""
    unreadable: tuple[type[Exception], ...] = (OSError, *errors_of_reading())
    try:
        return make()
    except BadQuestion as error:
        return _failure(error.status, error)
    except unreadable as error:
        return _failure(503, error)
    except (TypeError, ValueError, ArithmeticError) as error:  # a column may hold anything in SQLite
        _logger.exception("a page cannot be made")
        return _failure(500, f"the database holds what this page cannot read: {type(error).__name__}: {error}")


def _failure(status: int, why: object) -> Response:
    return _page("failure.html", "This page cannot be made", status, why=words("text", str(why)))


def _page(template: str, title: str, status: int = 200, **values: Any) -> HTMLResponse:
    text = _templates.get_template(template).render(
        title=title, reports={name: about for name, (about, _) in REPORTS.items()}, **values
    )
    return HTMLResponse(text, status)


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
    return _page(
        "report.html",
        report.title,
        report=report,
        heads=[(column.heading, column.kind, _query(request, sort=_turned(column.key, asked)))
               for column in report.columns],
        rows=[[(_cell(column, row), column.kind) for column in report.columns] for row in rows[:MOST_ROWS]],
        options=[(key, asked.get(key, "")) for key in keys],
        downloads={form: _query(request, format=form) for form in ("csv", "json")},
    )  # fmt: skip


def _cell(column: Column, row: Row) -> str:
    text = words(column.kind, row.get(column.key))
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"


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


def _lines(series: Iterable[Series]) -> list[tuple[str, dict[str, str]]]:
    """What is measured, and its value per period."""
    lines: dict[str, dict[str, str]] = {}
    for one in series:
        (_, period), *others = one.labels
        what = " ".join([one.name.removeprefix("telemetry_").replace("_", " "), *(value for _, value in others)])
        lines.setdefault(what, {})[period] = f"{one.value:,g}"
    return list(lines.items())


_EXPOSITION = "text/plain; version=0.0.4"


def _exposition(series: Iterable[Series]) -> str:
    """In the text format of Prometheus. No label's value comes from the database."""
    families: dict[str, list[str]] = {}
    for one in series:
        family = families.setdefault(one.name, [f"# HELP {one.name} {one.about}", f"# TYPE {one.name} gauge"])
        labels = ",".join(f'{key}="{value}"' for key, value in one.labels)
        family.append(f"{one.name}{{{labels}}} {one.value}")
    return "".join(f"{line}\n" for family in families.values() for line in family)
