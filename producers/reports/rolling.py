"""`telemetry-report rollup`: how far the rollups reach, and making them from rows."""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from typing import Any

from telemetry_bus import TelemetryStore

from ..destination import Destination
from ..extraction.rebuilding import coverage, rebuild
from .report import Column, Report

_logger = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rebuild", action="store_true", help="add the rows that are in no rollup, through the writer")
    parser.add_argument("--all", action="store_true", help="with --rebuild: make all again whose rows are still there")


def rollup(store: TelemetryStore, args: Any) -> Report:
    """What is in rollups and what is not; with `rebuild` after that was made."""
    destination = Destination(store, logger=_logger)
    if args.rebuild:
        rebuild(destination, again=args.all)
    found = coverage(destination)
    missing = found.unrolled + found.lost
    return Report(
        title="Hourly rollups of extractions",
        columns=(
            Column("extractions", "in rollups", "count"),
            Column("first_hour", "from", "moment"),
            Column("last_hour", "to", "moment"),
            Column("rows", "rows", "count"),
            Column("unrolled", "in none", "count"),
            Column("pruned", "pruned", "count"),
            Column("lost", "lost", "count"),
        ),
        rows=[asdict(found)],
        counted="table",
        nothing="",
        closing=f"{missing:,} rows to add: telemetry-report rollup --rebuild" if missing else "",
    )
