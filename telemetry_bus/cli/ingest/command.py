"""`telemetry-bus ingest`: records of any program become rows, each exactly once."""

from __future__ import annotations

import argparse
import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from ...config import DEFAULT_TIMEOUT, DialectName, env_flag
from ...errors import ConfigError, JobFailed
from ...store import TelemetryStore
from .. import exit_codes
from ..arguments import Parser, seconds
from ..calling import Caller
from ..deadletters.letters import reading
from ..flush import wait_for_journals
from ..output import Output, unlogged
from ..survey import Bus
from ..termination import noted
from . import ledger, tables
from .columns import Columns
from .files import is_replaced, opened
from .loading import Loader, Rejected, tried
from .records import READERS, Input

#: How often a file that is followed is looked at.
_POLL_S = 0.2


def add_to(whole: Parser) -> None:
    parser = whole.command(
        "ingest",
        run,
        "take records from files or a pipe into a table",
        "Take JSON lines or CSV into a table. It is made if it is not there, with columns for what the records\n"
        "have, and gets those that later records bring. What cannot be taken is kept in FILE.rejected with its line\n"
        "and the reason. A file that was taken before goes on where it was, whatever was killed; the same file\n"
        "twice changes nothing. Starts a writer if none runs, unless TELEMETRY_BUS_SPAWN is 0.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="plain or gzip; none, or -: standard input")
    parser.add_argument("--table", required=True, metavar="NAME")
    parser.add_argument("--format", choices=READERS, help="by default csv for FILE.csv, else jsonl")
    parser.add_argument("--ddl", type=Path, metavar="FILE", help="SQL that makes the table, its indexes and views")
    parser.add_argument("--dry-run", action="store_true", help="show the definitions, and count what would be rejected")
    parser.add_argument("--again", action="store_true", help="take files from their beginning that were taken before")
    parser.add_argument("--follow", action="store_true", help="go on as the file grows, across rotations, until Ctrl-C")
    parser.add_argument("--rejected", type=Path, metavar="FILE", help="keep there what cannot be taken")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT,
        metavar="S",
        help="wait for the writer S seconds at most (%(default)g)",
    )


class Result(NamedTuple):
    """What became of one input; `line` is the first one that was looked at."""

    path: str
    line: int
    records: int
    rejected: int
    #: Where the rejected ones are, and why the first of them is.
    kept: str | None = None
    reason: str | None = None


def run(arguments: argparse.Namespace, output: Output) -> int:
    bus = Bus.of(arguments.database)
    files: list[str] = arguments.files or ["-"]
    _check(bus, files, arguments)
    definitions = () if arguments.ddl is None else tables.definitions(arguments.ddl, _dialect(bus))
    with noted(signal.SIGINT, signal.SIGTERM) as stopped:
        if arguments.dry_run:
            results = [_try(bus, path, definitions, arguments, output) for path in files]
        else:
            with Ingest(bus, definitions, arguments, output, stopped) as ingest:
                results = [result for path in files for result in ingest.take(path)]
        interrupted = stopped() and not arguments.follow
    if output.as_json:
        inputs = [result._asdict() for result in results]
        output.document({"table": arguments.table, "dry_run": arguments.dry_run, "inputs": inputs})
    else:
        for result in results:
            _show(result, arguments, output)
    if interrupted:
        return exit_codes.INTERRUPTED
    return exit_codes.FAILED if any(result.rejected for result in results) else exit_codes.DONE


class Ingest:
    """What the inputs of one command have in common: a store, and a writer that answers."""

    def __init__(
        self,
        bus: Bus,
        definitions: tuple[str, ...],
        arguments: argparse.Namespace,
        output: Output,
        stopped: Callable[[], bool],
    ) -> None:
        self._bus = bus
        self._definitions = definitions
        self._arguments = arguments
        self._output = output
        self._stopped = stopped

    def __enter__(self) -> Self:
        timeout = self._arguments.timeout
        with ExitStack() as stack:
            self._caller = stack.enter_context(Caller(self._bus, timeout))
            self._caller.reach()
            wait_for_journals(self._bus, timeout)  # jobs of an ingest that was killed move its file's position
            stack.enter_context(unlogged())
            spawn = env_flag("TELEMETRY_BUS_SPAWN", True)
            store = TelemetryStore(self._bus.database.url, mode="daemon", spawn=spawn, timeout=timeout, linger_ms=0)
            self._store = stack.enter_context(store)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def take(self, path: str) -> Iterator[Result]:
        """Take one input; of one that is followed each file that comes to have its name."""
        going = True
        while going and not self._stopped():
            with opened(path, follow=self._arguments.follow) as stream:
                yield self._take(path, stream)
            going = self._arguments.follow

    def _take(self, path: str, stream: BinaryIO) -> Result:
        input = Input(stream, grows=self._arguments.follow)
        taken = None if path == "-" else self._taken(path, input)
        begin = taken.mark.lines if taken and taken.mark else 0
        rejected = Rejected(_rejected_path(path, self._arguments))
        if begin:
            rejected.forget_after(begin)
        columns = _columns(self._bus, path, self._definitions, self._arguments)
        reader = READERS[_format(path, self._arguments)]
        loader = Loader(self._store, columns, input, reader, rejected, taken, self._purge)
        try:
            with _progress(path, stream, self._output) as advance:
                loader.run(advance, self._stopped)
                if self._arguments.follow:
                    self._follow(path, stream, input, loader)
        finally:
            rejected.close()
        kept = str(rejected.path) if rejected.path and loader.rejected else None
        return Result(path, begin + 1, loader.records, loader.rejected, kept, rejected.first)

    def _follow(self, path: str, stream: BinaryIO, input: Input, loader: Loader) -> None:
        while input.grows and not self._stopped():
            time.sleep(_POLL_S)
            input.grows = not is_replaced(path, stream, input.position)
            loader.run(lambda position: None, self._stopped)

    def _taken(self, path: str, input: Input) -> ledger.Taken:
        name, table = str(Path(path).resolve()), self._arguments.table
        if self._arguments.again:
            return ledger.Taken(name, table)
        with tables.reading(self._bus.database, self._arguments.timeout) as connection:
            return ledger.find(connection, input, name, table)

    def _purge(self, failed: JobFailed) -> None:
        with reading(self._bus.database) as letters:
            ids = letters.ids_of(failed.stream, failed.sequence)
        self._caller.ask("dead-letters purge", ids=ids)


def _check(bus: Bus, files: list[str], arguments: argparse.Namespace) -> None:
    if arguments.follow and (len(files) > 1 or files == ["-"]):
        raise ConfigError("--follow takes one file", operation="ingest")
    if arguments.rejected and len(files) > 1:
        raise ConfigError("--rejected goes with one input", operation="ingest", hint="each FILE has its FILE.rejected")


def _try(bus: Bus, path: str, definitions: tuple[str, ...], arguments: argparse.Namespace, output: Output) -> Result:
    """Show what would become of an input, without a writer and without looking at what was taken before."""
    columns = _columns(bus, path, definitions, arguments)
    with opened(path, follow=False) as stream:
        rejected = Rejected(None)
        records, count = tried(columns, READERS[_format(path, arguments)](Input(stream), None), rejected)
    if not output.as_json:
        for line in "".join(f"{text};\n" for text in columns.ensure).splitlines():
            output.line(line)
    return Result(path, 1, records, count, reason=rejected.first)


def _columns(bus: Bus, path: str, definitions: tuple[str, ...], arguments: argparse.Namespace) -> Columns:
    with tables.reading(bus.database, arguments.timeout) as connection:
        table = tables.table_name(arguments.table, _dialect(bus), connection)
        present = tables.columns(connection, bus.database, table, definitions)
    untyped = _format(path, arguments) == "csv"
    return Columns(table, present, definitions, untyped=untyped, dialect=_dialect(bus))


def _dialect(bus: Bus) -> DialectName:
    return "postgresql" if bus.database.dialect == "postgresql" else "sqlite"


def _format(path: str, arguments: argparse.Namespace) -> str:
    name = path.lower().removesuffix(".gz")
    return arguments.format or ("csv" if name.endswith(".csv") else "jsonl")


def _rejected_path(path: str, arguments: argparse.Namespace) -> Path | None:
    return arguments.rejected or (None if path == "-" else Path(f"{path}.rejected"))


def _show(result: Result, arguments: argparse.Namespace, output: Output) -> None:
    name = "standard input" if result.path == "-" else result.path
    begin = f" from line {output.number(result.line)} on" if result.line > 1 else ""
    would = "would be " if arguments.dry_run else ""
    text = f"{name}: {output.counted(result.records, 'record')}{begin} {would}taken into {arguments.table}"
    if result.rejected:
        text += f", {output.number(result.rejected)} {would}rejected: {result.reason}"
        text += f"; see {result.kept}" if result.kept else ""
        text += "; --rejected FILE keeps them" if result.path == "-" and not result.kept else ""
    output.sentence(text)


@contextmanager
def _progress(path: str, stream: BinaryIO, output: Output) -> Iterator[Callable[[int], None]]:
    """Shows how far a file was read, at a terminal."""
    if not output.on_terminal or output.as_json or not isinstance(stream, io.BufferedReader) or path == "-":
        yield lambda position: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(path, total=os.fstat(stream.fileno()).st_size)
        yield lambda position: progress.update(task, completed=position)
