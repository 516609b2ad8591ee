"""Dead letters: groups of one kind, what a group holds, and running them again or deleting them after a question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .asking import BadQuestion
from .bus import ask
from .forms import Forms
from .pages import page

#: Of a group so many are shown.
MOST_LETTERS = 100
ACTIONS = {"retry": "run again", "purge": "delete for good"}
_FILTERS = ("error", "table", "since", "like")


class DeadLetters:
    """The pages on the dead letters of a database."""

    def __init__(self, database: str | None, forms: Forms) -> None:
        self._database = database
        self._forms = forms

    def groups(self, request: Request) -> Response:
        chosen = _chosen(request.query_params)
        found = ask(self._database, "dead-letters", "list", "--group", *_options(chosen))
        return page("letters.html", "Dead letters", groups=found, chosen=chosen, filters=_FILTERS[:-1])

    def group(self, request: Request) -> Response:
        """Those of one kind, with the values of the first of them."""
        like = _number(request.path_params["id"])
        options = ["--like", like, "--limit", str(MOST_LETTERS)]
        found = ask(self._database, "dead-letters", "list", "--each", *options)
        whole = ask(self._database, "dead-letters", "show", like)
        return page(
            "letter_group.html", "Dead letters of one kind", letters=found, whole=whole, like=like, most=MOST_LETTERS
        )

    def question(self, request: Request) -> Response:
        """What is asked before something is done."""
        action, ids, chosen = self._order(request.query_params)
        if not ids and not _options(chosen):
            _all(action)
        count = len(ids) if ids else len(ask(self._database, "dead-letters", "list", "--each", *_options(chosen)))
        return page(
            "letters_question.html",
            f"{ACTIONS[action].capitalize()}?",
            action=action,
            said=ACTIONS[action],
            count=count,
            ids=ids,
            chosen=chosen,
            secret=self._forms.secret,
        )

    def act(self, given: Mapping[str, str]) -> Response:
        """Do what the form asks for, and say what has become of each."""
        action, ids, chosen = self._order(given)
        options = ids or _options(chosen) or _all(action)
        more = ["--yes"] if action == "purge" else []
        results: Any = ask(self._database, "dead-letters", action, *options, *more)
        return page("letters_done.html", f"Dead letters: {ACTIONS[action]}", action=action, results=results)

    def _order(self, given: Any) -> tuple[str, list[str], dict[str, str]]:
        action = given.get("action", "")
        if action not in ACTIONS:
            raise BadQuestion(400, f"there is no action {action}; there are {', '.join(ACTIONS)}")
        ids = [_number(each) for each in given.get("ids", "").replace(",", " ").split()]
        return action, ids, _chosen(given)


def _chosen(given: Any) -> dict[str, str]:
    return {name: given.get(name, "") for name in _FILTERS}


def _all(action: str) -> list[str]:
    """Raises `BadQuestion` where a number or a filter was lost on the way."""
    if action == "purge":
        raise BadQuestion(400, "which dead letters are to be deleted? All of them: telemetry-bus dead-letters purge")
    return ["--all"]


def _options(chosen: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in chosen.items() if value]


def _number(text: str) -> str:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadQuestion(400, f"{text} is no number of a dead letter")
    return text
