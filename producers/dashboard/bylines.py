"""Bylines: what was made of them step by step, and what people say of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..byline import review
from ..destination import Destination
from ..reports.opening import open_store
from .asking import BadQuestion
from .forms import Forms
from .pages import page

_GONE = "there is no such cleaning: it may have been pruned"
_logger = logging.getLogger(__name__)


class Bylines:
    """The pages on the cleanings of bylines of a database."""

    def __init__(self, database: str | None, forms: Forms) -> None:
        self._database = database
        self._forms = forms

    def cleanings(self, request: Request) -> Response:
        """The newest, or those that wait for a person."""
        waiting = "all" not in request.query_params
        with open_store(self._database) as store:
            found = review.cleanings(Destination(store, logger=_logger), waiting=waiting)
        return page("bylines.html", "Bylines", cleanings=found, waiting=waiting)

    def cleaning(self, request: Request) -> Response:
        with open_store(self._database) as store:
            found = review.cleaning(Destination(store, logger=_logger), request.path_params["id"])
        if found is None:
            raise BadQuestion(404, _GONE)
        whole, steps = found
        return page("byline.html", "Byline", whole=whole, steps=steps, labels=review.LABELS, secret=self._forms.secret)

    def label(self, given: Mapping[str, str]) -> Response:
        """Keep what a person says, through the writer; the page of the cleaning then shows it."""
        if given.get("label") not in review.LABELS:
            raise BadQuestion(400, f"a label is one of {', '.join(review.LABELS)}")
        with open_store(self._database, writes=True) as store:
            destination = Destination(store, logger=_logger)
            if review.cleaning(destination, given.get("id", "")) is None:
                raise BadQuestion(404, _GONE)
            review.label(destination, given.get("id", ""), given["label"], given.get("notes", ""), given.get("by", ""))
        return RedirectResponse("/bylines", 303)
