"""The reports that there are, and their options: what every command line of reports is made from."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ..destination import Destination
from ..values import utc_now, utc_text
from . import cleaning, crawling, extraction, outcomes
from .report import Report

_ERRORS_DAYS = 7
#: A hundred years.
_MOST_DAYS = 36_525


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0
    if not 0 < days < _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text} is no number of days above 0 and below {_MOST_DAYS:,}")
    return days


def _limit(text: str) -> int:
    if not (text.isdecimal() and len(text) < 19 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return int(text)


#: What each report is about, and the options that it takes.
REPORTS = {
    "publishers": ("scorecards of publishers, worst first", ("--publisher", "--limit", "--days")),
    "errors": ("HTTP errors by their kind, and failures without a response", ("--days",)),
    "methods": ("how well each extraction method works", ("--publisher", "--days")),
    "fields": ("which fields are found", ("--publisher", "--method", "--days")),
    "outcomes": ("what became of extractions", ("--operation", "--days")),
    "content-types": ("which kinds of pages were detected", ("--publisher", "--days")),
    "proxies": ("how proxies served, worst first", ("--publisher", "--days")),
    "verification": ("batches of verified URLs by job", ("--job", "--days")),
    "bylines": ("bylines by source", ("--source", "--days")),
    "cleaning": ("content cleaning by domain", ("--domain", "--days")),
    "wire": ("which wire services were detected, and how", ("--domain", "--days")),
    "locality": ("which wire articles were judged local", ("--domain", "--days")),
    "patterns": ("the library of boilerplate patterns", ("--domain", "--limit", "--days")),
    "discovery": ("discovery by source", ("--source", "--operation", "--days")),
    "discovery-methods": ("how well each method of discovery works", ("--source", "--method", "--days")),
    "statuses": ("HTTP statuses of discovery by source and method", ("--source", "--method", "--operation", "--days")),
    "operations": ("operations, newest first", ("--type", "--limit", "--days")),
}

_OPTIONS: dict[str, dict[str, Any]] = {
    "--days": {"type": _days, "metavar": "N", "help": "only the last N days"},
    "--publisher": {"metavar": "NAME", "help": "only this publisher"},
    "--method": {"metavar": "NAME", "help": "only this method"},
    "--source": {"metavar": "NAME", "help": "only this source"},
    "--domain": {"metavar": "NAME", "help": "only this domain"},
    "--job": {"metavar": "NAME", "help": "only this job"},
    "--operation": {"metavar": "ID", "help": "only this operation"},
    "--type": {"metavar": "TYPE", "help": "only operations of this type"},
    "--limit": {
        "type": _limit,
        "metavar": "N",
        "help": "at most N",
    },
}

_SPECIAL: dict[tuple[str, str], dict[str, Any]] = {
    ("operations", "--limit"): {"default": crawling.MOST_OPERATIONS, "help": "at most N; %(default)s by default"},
    ("errors", "--days"): {"default": _ERRORS_DAYS, "help": "only the last N days; %(default)s by default"},
}


def add_database(parser: argparse.ArgumentParser) -> None:
    """Without a default, so that a report's parser does not undo what stands before the report."""
    parser.add_argument(
        "--database",
        metavar="URL",
        default=argparse.SUPPRESS,
        help="URL or path; the configured database by default",
    )


def add_reports(subparsers: Any, *, with_database: bool) -> None:
    """A sub-command for each report, with its options."""
    for name, (about, _) in REPORTS.items():
        add_options(add_report(subparsers, name, about, with_database=with_database), name)


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Those of the report `name` alone."""
    for option in REPORTS[name][1]:
        parser.add_argument(option, **{**_OPTIONS[option], **_SPECIAL.get((name, option), {})})


def add_report(subparsers: Any, name: str, about: str, *, with_database: bool) -> argparse.ArgumentParser:
    """A sub-command that prints a report, with the options that all have."""
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=about, description=f"Print {about}.")
    if with_database:
        add_database(parser)
    add_format(parser)
    parser.add_argument("--spreadsheet", action="store_true", help="CSV whose texts no spreadsheet takes for formulas")
    return parser


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table", help="table by default")


def make_report(name: str, args: Any, telemetry: extraction.ExtractionReads, destination: Destination) -> Report:
    """The report, with the options that were given."""
    days = _option(args, "days")
    within = {} if days is None else {"days": days}
    since = None if days is None else utc_text(utc_now() - timedelta(days=days))
    limit = _option(args, "limit")
    publisher, source = _option(args, "publisher"), _option(args, "source")
    method, operation, domain = _option(args, "method"), _option(args, "operation"), _option(args, "domain")
    makers: dict[str, Callable[[], Report]] = {
        "publishers": lambda: extraction.publishers(telemetry, publisher=publisher, limit=limit, **within),
        "errors": lambda: extraction.errors(telemetry, days=_ERRORS_DAYS if days is None else days),
        "methods": lambda: extraction.methods(telemetry, publisher=publisher, **within),
        "fields": lambda: extraction.fields(telemetry, publisher=publisher, method=method, **within),
        "outcomes": lambda: outcomes.outcomes(destination, since=since, operation=operation),
        "content-types": lambda: outcomes.content_types(destination, since=since, publisher=publisher),
        "proxies": lambda: outcomes.proxies(destination, since=since, publisher=publisher),
        "verification": lambda: outcomes.verification(destination, since=since, job=_option(args, "job")),
        "bylines": lambda: cleaning.bylines(destination, since=since, source=source),
        "cleaning": lambda: cleaning.contents(destination, since=since, domain=domain),
        "wire": lambda: cleaning.wire(destination, since=since, domain=domain),
        "locality": lambda: cleaning.locality(destination, since=since, domain=domain),
        "patterns": lambda: cleaning.patterns(destination, since=since, domain=domain, limit=limit),
        "discovery": lambda: crawling.discovery(destination, since=since, source=source, operation=operation),
        "discovery-methods": lambda: crawling.discovery_methods(destination, since=since, source=source, method=method),
        "statuses": lambda: crawling.statuses(
            destination, since=since, source=source, method=method, operation=operation
        ),
        "operations": lambda: crawling.operations(
            destination,
            since=since,
            operation_type=_option(args, "type"),
            limit=limit or crawling.MOST_OPERATIONS,
        ),
    }
    return makers[name]()


def _option(args: Any, name: str) -> Any:
    return getattr(args, name, None)
