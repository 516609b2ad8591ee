"""What the address of a page asks for: the options of its report, as the command line has them, and an order."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import NoReturn

from ..reports.catalogue import REPORTS, add_format, add_options
from ..reports.report import Report, Row


class BadQuestion(Exception):
    """An address that asks for what there is not; `status` is HTTP's."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadQuestion(400, message)


def arguments(name: str, asked: Mapping[str, str]) -> argparse.Namespace:
    """The options of the report `name`; what is asked for and empty counts as not asked for.

    Raises `BadQuestion` when there is no such report, or a value is none of its option.
    """
    if name not in REPORTS:
        raise BadQuestion(404, f"there is no report {name}; there are {', '.join(REPORTS)}")
    options = [option for option in ("--format", *REPORTS[name][1]) if asked.get(option[2:])]
    parser = _Parser(add_help=False)
    add_format(parser)
    add_options(parser, name)
    return parser.parse_args([f"{option}={asked[option[2:]]}" for option in options])


def ordered(report: Report, by: str) -> Sequence[Row]:
    """The rows by the column `by`, downwards with a `-` before it; in the report's order without one. None comes last.

    Raises `BadQuestion` when the report has no such column.
    """
    if not by:
        return report.rows
    key = by.removeprefix("-")
    if key not in {column.key for column in report.columns}:
        raise BadQuestion(400, f"there is no column {key}")
    there = [row for row in report.rows if row.get(key) is not None]
    there.sort(key=lambda row: _rank(row[key]), reverse=by.startswith("-"))
    return [*there, *(row for row in report.rows if row.get(key) is None)]


def _rank(value: object) -> tuple[bool, float, str]:
    """Numbers before texts: a column may hold anything in SQLite."""
    if isinstance(value, int | float):
        return (False, value, "")
    return (True, 0, str(value))
