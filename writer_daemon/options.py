"""The command line of `telemetry-writer`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from telemetry_bus import __version__
from telemetry_bus.config import DEFAULT_IDLE_TIMEOUT, Database, env_seconds, parse_database
from telemetry_bus.database.writer import DEFINITION_TIMEOUT_S
from telemetry_bus.runtime.folder import group_id
from telemetry_bus.writer.intake import BatchLimits

EPILOG = """exit codes: 0 done, 1 a defect, 2 usage, 3 another writer owns the database, 4 the database cannot be
opened, 5 the bus folder was removed, 6 left at once at the second signal, 7 a statement could
not be interrupted"""


@dataclass(frozen=True)
class WriterOptions:
    """What the command line says. Times are in seconds; an `idle_timeout` of 0 means: never leave."""

    database: Database
    idle_timeout: float
    limits: BatchLimits
    durability: Literal["full", "normal"]
    group: int | None
    log_level: str
    log_format: Literal["text", "json"]
    spawned: bool
    metrics: str | None = None
    definition_timeout: float = DEFINITION_TIMEOUT_S


def parse(arguments: Sequence[str] | None = None) -> WriterOptions:
    """Raises `ConfigError`; prints help and exits as argparse does."""
    defaults = BatchLimits()
    parser = argparse.ArgumentParser(
        prog="telemetry-writer", description="The writer of a telemetry bus, in the foreground.", epilog=EPILOG
    )
    add = parser.add_argument
    add("--database", metavar="URL", help="URL or path; else TELEMETRY_DATABASE_URL")
    add(
        "--idle-timeout",
        type=float,
        metavar="S",
        help="leave when no producer has been there for S seconds and nothing is pending; 0: never (default)",
    )
    add("--batch-rows", type=_positive, default=defaults.jobs, metavar="N", help="jobs in one transaction, at most")
    add("--batch-bytes", type=_positive, default=defaults.bytes, metavar="N", help="bytes in one transaction, at most")
    add(
        "--batch-delay-ms",
        type=float,
        default=defaults.delay_s * 1000,
        metavar="MS",
        help="wait so long for more jobs before committing (default %(default)g)",
    )
    add(
        "--durability",
        choices=("full", "normal"),
        default="full",
        help="normal: a power cut may undo acknowledged commits (default %(default)s)",
    )
    add(
        "--definition-timeout",
        type=float,
        default=DEFINITION_TIMEOUT_S,
        metavar="S",
        help="let a definition of ensure= take so long; an index that takes longer is left out (default %(default)g)",
    )
    add(
        "--group",
        metavar="NAME",
        help="share the bus with this group, else with TELEMETRY_BUS_GROUP; else it is the user's own",
    )
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    add("--log-format", choices=("text", "json"), default="text")
    add("--metrics", metavar="HOST:PORT", help="serve the figures to Prometheus; PORT alone: on 127.0.0.1")
    add("--spawned", action="store_true", help=argparse.SUPPRESS)  # started by a producer: log to the bus folder
    add("--version", action="version", version=f"telemetry-bus {__version__}")
    given = parser.parse_args(arguments)
    idle = given.idle_timeout
    if idle is None:
        idle = env_seconds("TELEMETRY_BUS_IDLE_TIMEOUT", DEFAULT_IDLE_TIMEOUT) if given.spawned else 0.0
    if idle < 0 or given.batch_delay_ms < 0 or given.definition_timeout <= 0:
        parser.error("times are not negative, and a definition takes some")
    database = parse_database(given.database)
    if given.spawned and database.dialect == "postgresql":
        database = _with_its_secret(database)
    return WriterOptions(
        database=database,
        idle_timeout=idle,
        limits=BatchLimits(given.batch_rows, given.batch_bytes, given.batch_delay_ms / 1000),
        durability=given.durability,
        group=None if given.group is None else group_id(given.group, "--group"),
        log_level=given.log_level,
        log_format=given.log_format,
        spawned=given.spawned,
        metrics=given.metrics,
        definition_timeout=given.definition_timeout,
    )


def _with_its_secret(database: Database) -> Database:
    """The URL with a password comes through standard input, where the producer has one."""
    with open(0, "rb", closefd=False) as pipe:
        url = pipe.read().decode()
    return parse_database(url) if url else database


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
