"""A batch job on real files, done three times: recorded through the bus, by every process for itself, and not at all.

Several processes read the Python sources of this machine and extract title, author, text and date by several
methods. What was tried on each file, how long it took and what failed goes into one SQLite file; a scorecard of the
publishers is read from it.
"""

from __future__ import annotations

import argparse
import signal
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from rich.console import Console

from . import corpus, hosts, recording, report, workers

DEFAULT_DATABASE = Path("demo-output/telemetry.db")
#: Enough for the processes to get in each other's way, few enough for three quarters of a minute in all on two cores.
DEFAULT_RECORDS = 10_000

EXIT_OK, EXIT_MISSING, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; the exit code says whether every record is in its database."""
    options = _options(arguments)
    if options.postgres:
        return EXIT_MISSING if hosts.show(options.workers, options.records) else EXIT_OK
    database: Path = options.database.resolve()
    console = Console(highlight=False)
    try:
        _make_room(database, keep=options.keep)
    except (sqlite3.Error, OSError, subprocess.CalledProcessError) as error:
        print(f"demo: {database} cannot be replaced: {error}; --keep adds to a database", file=sys.stderr)
        return EXIT_USAGE
    try:
        ended = _demonstrate(console, database, options.workers, options.records)
    except sqlite3.Error as error:  # with --keep: tables of the same names that are not ours
        print(f"demo: {database}: {error}", file=sys.stderr)
        return EXIT_MISSING
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return serve(database) if options.serve and ended == EXIT_OK else ended


def serve(database: Path) -> int:
    """The pages on the database, until a signal ends them."""
    command = [str(Path(sys.executable).with_name("telemetry-report")), "serve", "--database", str(database)]
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=(__doc__ or "").partition("\n")[0])
    option = partial(parser.add_argument, metavar="N", type=_positive)
    option("--workers", default=4, help="processes (default %(default)s)")
    option("--records", default=DEFAULT_RECORDS, help="extractions; small files come again (default %(default)s)")
    option("--database", default=DEFAULT_DATABASE, metavar="PATH", type=Path, help="default %(default)s; replaced")
    parser.add_argument("--keep", action="store_true", help="add to the database instead of replacing it")
    parser.add_argument(
        "--postgres", action="store_true", help="two hosts that write into one PostgreSQL server, which is made for it"
    )
    parser.add_argument("--serve", action="store_true", help="open the pages on the database afterwards")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _demonstrate(console: Console, database: Path, processes: int, records: int) -> int:
    found = corpus.find_files()
    files = corpus.work_list(found, records)
    print(f"{len(found):,} Python files found, {len(files):,} extractions, {processes} processes", flush=True)
    corpus.warm_up(found)

    def run(name: str, new_recorder: Callable[[], recording.Recorder], into: Path | None) -> report.Result:
        with report.progress(console, name, len(files)) as show:
            outcome = workers.run(new_recorder, files, operation_id, processes, show)
        missing = _missing(outcome, len(files), into, operation_id)
        return report.Result(name, outcome, missing, is_recorded=into is not None)

    operation_id = f"{recording.OPERATION_PREFIX}{uuid.uuid4()}"
    results = [run("through the bus", partial(recording.BusRecorder, database), database)]
    if not results[0].outcome.was_interrupted:
        with tempfile.TemporaryDirectory(dir=database.parent) as folder:
            direct = Path(folder) / "direct.db"
            recording.DirectRecorder.create(direct)
            results.append(run("each for itself", partial(recording.DirectRecorder, direct), direct))
        if not results[-1].outcome.was_interrupted:
            results.append(run("not recorded", recording.NoRecorder, None))
    report.comparison(console, results)
    if results[0].outcome.tally.records:
        report.methods(console, database)
        report.scorecard(console, database)
    print(f"\n{report.next_steps(database)}", flush=True)
    return _exit_code(results)


def _missing(outcome: workers.Outcome, files: int, database: Path | None, operation_id: str) -> int:
    """How many records should be in the database and are not."""
    if database is None:
        return 0
    tally = outcome.tally
    expected = tally.records if outcome.was_interrupted else files
    return max(0, expected - (recording.recorded(database, operation_id) if tally.records else 0))


def _exit_code(results: list[report.Result]) -> int:
    for result in results:
        if result.missing or result.outcome.failed_workers:
            missing, failed = result.missing, result.outcome.failed_workers
            print(f"demo: {result.name}: {missing} records missing, {failed} processes failed", file=sys.stderr)
            return EXIT_MISSING
    return EXIT_INTERRUPTED if any(result.outcome.was_interrupted for result in results) else EXIT_OK


def _make_room(database: Path, *, keep: bool) -> None:
    """Remove the database of an earlier demonstration, and nothing else. Raises when it is not one."""
    database.parent.mkdir(parents=True, exist_ok=True)
    if keep or not database.exists():
        return
    with closing(sqlite3.connect(database)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        foreign = {name for name in tables if not name.startswith(("extraction", "telemetry_bus_", "sqlite_"))}
        operations = recording.operations(connection) if "extraction_telemetry_v2" in tables else set()
    if foreign:
        raise FileExistsError(f"it holds other tables ({', '.join(sorted(foreign))})")
    if not all(operation.startswith(recording.OPERATION_PREFIX) for operation in operations):
        raise FileExistsError("it holds extractions that are not of a demonstration")
    # a writer that is still there would go on with the file that is removed
    stop = [str(Path(sys.executable).with_name("telemetry-bus")), "stop", "--database", str(database)]
    subprocess.run(stop, check=True, capture_output=True)
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as cleanly as by an interrupt
    sys.exit(main())
