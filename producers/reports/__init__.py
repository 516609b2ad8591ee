"""What the producers recorded, for people: scorecards and figures, as tables, JSON or CSV."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

from ..destination import Destination
from ..extraction import ComprehensiveExtractionTelemetry
from .catalogue import REPORTS, add_reports, make_report
from .rendering import render

__all__ = ["ComprehensiveExtractionTelemetry", "add_telemetry_parser", "handle_telemetry_command"]

_logger = logging.getLogger(__name__)


def add_telemetry_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Give a host application the sub-command `telemetry`, with a sub-command per report in `telemetry_command`.

    `func` of its arguments is `handle_telemetry_command`.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser("telemetry", help="what the telemetry producers recorded")
    add_reports(parser.add_subparsers(dest="telemetry_command", metavar="REPORT"), with_database=False)
    parser.set_defaults(func=handle_telemetry_command)
    return parser


def handle_telemetry_command(args: Any) -> int:
    """Print the report of the configured database that `args.telemetry_command` names.

    Returns 0; 1 when it fails, which is logged, or when none is named: then it prints which there are.
    """
    name = getattr(args, "telemetry_command", None)
    if name not in REPORTS:
        print(f"Which report? There are: {', '.join(REPORTS)}")
        return 1
    try:
        report = make_report(name, args, ComprehensiveExtractionTelemetry(), Destination(logger=_logger))
        render(report, getattr(args, "format", "table"), sys.stdout, spreadsheet=getattr(args, "spreadsheet", False))
    except Exception:
        _logger.exception("the report %s cannot be made", name)
        return 1
    return 0
