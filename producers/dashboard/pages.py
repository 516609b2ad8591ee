"""Templates, and the page that says why another one cannot be made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ..reports.catalogue import REPORTS
from ..reports.opening import errors_of_reading
from ..reports.words import words
from .asking import BadQuestion
from .bus import Unanswered

#: The views that answer a question by themselves, by their address; each report has a page besides.
VIEWS = {
    "/": "overview",
    "/publishers": "publishers",
    "/errors": "HTTP errors",
    "/methods": "methods",
    "/bylines": "bylines",
    "/discovery": "discovery",
    "/operations": "operations",
    "/queue": "queue",
    "/dead-letters": "dead letters",
    "/live": "live",
}
#: So long are the values of a page at most.
MOST_LETTERS = 300

_logger = logging.getLogger(__name__)
_templates = Environment(
    loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def text_of(kind: str, value: Any) -> str:
    """A value as it stands on a page."""
    text = words(kind, value)
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"


_templates.filters["told"] = lambda value, kind="text": text_of(kind, value)


def page(template: str, title: str, status: int = 200, **values: Any) -> HTMLResponse:
    text = _templates.get_template(template).render(
        title=title, views=VIEWS, reports={name: about for name, (about, _) in REPORTS.items()}, **values
    )
    return HTMLResponse(text, status)


def answering(make: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """What `make` answers, or a page that says why it cannot be made."""

    def answer(request: Request) -> Response:
        unreadable: tuple[type[Exception], ...] = (OSError, Unanswered, *errors_of_reading())
        try:
            return make(request)
        except BadQuestion as error:
            return _failure(error.status, error)
        except unreadable as error:
            return _failure(503, error)
        except (TypeError, ValueError, ArithmeticError) as error:  # a column may hold anything in SQLite
            _logger.exception("a page cannot be made")
            return _failure(500, f"the database holds what this page cannot read: {type(error).__name__}: {error}")

    return answer


def days_of(request: Request, default: float = 7) -> float:
    """The range that an address asks for. Raises `BadQuestion`."""
    asked: Mapping[str, str] = request.query_params
    try:
        days = float(asked.get("days") or default)
    except ValueError:
        days = 0
    if not 0 < days <= 36_525:
        raise BadQuestion(400, f"{asked['days']} is no number of days")
    return days


def _failure(status: int, why: object) -> Response:
    return page("failure.html", "This page cannot be made", status, why=words("text", str(why)))
