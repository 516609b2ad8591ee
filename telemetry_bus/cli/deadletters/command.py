"""`telemetry-bus dead-letters`: the command line of the commands about failed jobs."""

from __future__ import annotations

from ...config import DEFAULT_TIMEOUT
from ..arguments import Parser, Run, positive, seconds
from . import orders as letter_orders
from . import views as letter_views
from .choice import add_choice, span


def add_to(whole: Parser) -> None:
    group = whole.command("dead-letters", None, "look at failed jobs, mend, run them again")
    _add_list(group)
    _add_show(group)
    _add_retry(group)
    _add_purge(group)
    _add_export(group)


def _add_list(group: Parser) -> None:
    parser = group.command(
        "list",
        letter_views.list_letters,
        "list them, the oldest first; many of them by their kind",
        "List dead letters, the oldest first. More than 20 are grouped by error and statement, with first, last and\n"
        "count, unless --each or --limit says otherwise.",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="the first N only")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--group", action="store_true", default=None, help="by error and statement")
    how.add_argument("--each", action="store_false", dest="group", help="one by one, however many there are")
    add_choice(parser)


def _add_show(group: Parser) -> None:
    parser = group.command("show", letter_views.show, "show all of one: values, definitions, traceback")
    parser.add_argument("id", type=positive, metavar="ID")


def _add_retry(group: Parser) -> None:
    _add_order(
        group,
        "retry",
        letter_orders.retry,
        "run them again; returns when each is decided",
        "Run dead letters again: those that are named, or all that a filter leaves. Each is applied and gone, or\n"
        "still there with its new error.\n"
        "Starts a writer if none runs, unless TELEMETRY_BUS_SPAWN is 0.",
    )


def _add_purge(group: Parser) -> None:
    parser = _add_order(
        group,
        "purge",
        letter_orders.purge,
        "delete them for good",
        "Delete dead letters for good: those that are named, or all that a filter leaves; all of them when nothing is\n"
        "said. At a terminal it asks first. With --older-than, from a timer, it bounds how many are kept.",
    )
    parser.add_argument("--older-than", type=span, metavar="AGE", help="failed longer ago than 90d, 12h, 30m, 8w")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _add_order(group: Parser, name: str, run: Run, summary: str, description: str) -> Parser:
    parser = group.command(name, run, summary, description)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("ids", type=positive, nargs="*", default=[], metavar="ID")
    which.add_argument("--all", action="store_true", help="all there are")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT,
        metavar="S",
        help="wait for the writer, and for each of its answers, S seconds at most (%(default)g)",
    )
    add_choice(parser)
    return parser


def _add_export(group: Parser) -> None:
    parser = group.command(
        "export",
        letter_views.export,
        "write them to a file, as JSON lines",
        'Write dead letters to a file, one JSON object per line, complete; bytes are {"base64": …}.',
    )
    add_choice(parser)
    parser.add_argument("file", metavar="FILE", help="a file, mode 0600 and replaced as a whole; - is standard output")
