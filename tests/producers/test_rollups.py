"""Rollups and rows tell the same, whatever happens to both."""

from __future__ import annotations

import json
import logging
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from producers import histogram
from producers.destination import Destination
from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics, reads, rebuilding
from producers.extraction.rebuilding import Coverage, coverage, rebuild
from producers.extraction.schema import ROLLUP_TABLES
from producers.reports.command import main as telemetry_report
from producers.values import utc_now
from telemetry_bus import TelemetryStore
from telemetry_bus.cli import main as telemetry_bus
from tests.support.clock import wait_until
from tests.support.processes import send, writers_below

pytestmark = pytest.mark.slow

Same = Callable[..., None]
LOG = logging.getLogger(__name__)
#: Ranges of days: all, one that begins within an hour, and one within this hour.
DAYS = (None, 6.37, 0.01)
each_mode = pytest.mark.parametrize("mode", ["sync", "thread", pytest.param("daemon", marks=pytest.mark.integration)])
in_sync = pytest.mark.parametrize("mode", ["sync"])

ODD: tuple[Any, ...] = (None, "", "a", "Ünïcode ‮", "<script>", "\x1b[31m", "x" * 10_000, "lone \ud800", 7)


@pytest.fixture
def telemetry(store: TelemetryStore) -> ComprehensiveExtractionTelemetry:
    return ComprehensiveExtractionTelemetry(store=store)


def extraction(random: Random) -> Any:
    """Any extraction there may be, odd ones among them."""
    host = random.choice(("a.example", "b.example:8080", "", "h" * 300))
    metrics: Any = ExtractionMetrics("o", "a", f"https://{host}/x", random.choice(("A", "B", *ODD)))
    for name in random.sample(("m", "n", *ODD[2:]), random.randrange(4)):
        metrics.start_method(name)
        if random.random() < 0.9:
            metrics.end_method(name, random.random() < 0.5, None, {"title": "t", "author": random.choice(("", "x"))})
            metrics.method_timings[str(name)] = random.choice((random.lognormvariate(6, 2), "long", float("nan"), True))
    if random.random() < 0.1:
        metrics.method_success = random.choice(({"m": set()}, {"m": "x", 5: 1}, {}))
        metrics.field_extraction = random.choice(({"m": "no"}, {"m": {"title": 0.0}}, [1], None))
    if random.random() < 0.7:
        metrics.set_http_metrics(random.choice((200, 200, 301, 404, 503, 0, 2**70)), 1, 1)
    metrics.finalize({"title": "t"} if random.random() < 0.5 else {})
    metrics.total_duration_ms = random.choice((random.lognormvariate(7, 2), 0.3, 1e300, -1, None, "long", 1024.0))
    return metrics


def record(telemetry: ComprehensiveExtractionTelemetry, count: int, seed: int, patch: pytest.MonkeyPatch) -> None:
    """Random extractions of the last ten days."""
    random = Random(seed)
    for _ in range(count):
        moment = utc_now() - timedelta(days=random.choice((0, 10 * random.random(), random.randrange(240) / 24)))
        patch.setattr("producers.extraction.rows.utc_now", lambda moment=moment: moment)
        telemetry.record_extraction(extraction(random))
    patch.undo()
    assert 0 == telemetry._destination.failures
    telemetry.flush()


def told(destination: Destination, ranges: Iterable[float | None]) -> Iterator[tuple[str, Any]]:
    """What all reports that read rollups say, by what they are and of how many days."""
    for days in ranges:
        yield f"publishers {days}", reads.publisher_stats(destination, days)
        yield f"errors {days}", reads.error_counts(destination, days)
        for publisher in (None, ""):
            yield f"methods {days} {publisher}", reads.method_effectiveness(destination, publisher, days)
            yield f"fields {days} {publisher}", reads.field_extraction_stats(destination, publisher, None, days)


@pytest.fixture
def same(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Same:
    """Holds that reports tell the same with rollups and without any, from the rows alone."""
    copies = iter(range(100))

    def check(ranges: Iterable[float | None] = DAYS) -> None:
        copy = tmp_path / f"copy{next(copies)}.db"
        with closing(sqlite3.connect(database)) as original, closing(sqlite3.connect(copy)) as connection:
            original.backup(connection)
            forget_rollups(connection)
        now = utc_now()
        monkeypatch.setattr("producers.extraction.counting.utc_now", lambda: now)
        with TelemetryStore(database, mode="sync") as ours, TelemetryStore(copy, mode="sync") as rows:
            with_rollups = dict(told(Destination(ours, logger=LOG), ranges))
            from_rows = dict(told(Destination(rows, logger=LOG), ranges))
        monkeypatch.undo()
        assert rounded(from_rows) == rounded(with_rollups)

    return check


def forget_rollups(connection: sqlite3.Connection) -> None:
    """Make the database as it was before there were rollups."""
    connection.execute("DROP INDEX IF EXISTS ix_extraction_telemetry_v2_rollup_hour")
    connection.execute("ALTER TABLE extraction_telemetry_v2 DROP COLUMN rollup_hour")
    for table in ROLLUP_TABLES:
        connection.execute(f"DROP TABLE {table.name}")
    connection.commit()


def rounded(value: Any) -> Any:
    """Sums of floats depend on their order, in the last digits."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def make_old(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        forget_rollups(connection)


def rolled(database: Path) -> Coverage:
    with TelemetryStore(database, mode="sync") as store:
        return coverage(Destination(store, logger=LOG))


@each_mode
def test_rollups_tell_what_rows_tell(
    telemetry: ComprehensiveExtractionTelemetry, database: Path, same: Same,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """After any extractions, in every mode: each report, over any days, of any publisher."""
    record(telemetry, 100, 1, monkeypatch)
    found = rolled(database)
    assert (100, 100, 0, 0, 0) == (found.extractions, found.rows, found.unrolled, found.pruned, found.lost)
    same()


@in_sync
def test_what_is_told_is_right(telemetry: ComprehensiveExtractionTelemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against what was recorded, counted in Python."""
    random, recorded = Random(2), []
    for _ in range(200):
        metrics = ExtractionMetrics("o", "a", "https://h/x", "P")
        metrics.total_duration_ms = random.lognormvariate(7, 1)
        if status := random.choice((None, None, 200, 404, 503)):
            metrics.set_http_metrics(status, 1, 1)
        metrics.is_success = status == 200 or random.random() < 0.3
        recorded.append(metrics)
        telemetry.record_extraction(metrics)
    (stats,) = telemetry.get_publisher_stats()
    assert (200, sum(m.is_success for m in recorded)) == (stats["total_attempts"], stats["successful"])
    durations = sorted(m.total_duration_ms for m in recorded)
    assert durations[189] == pytest.approx(stats["p95_duration_ms"], rel=histogram.RELATIVE_ERROR)
    expected = Counter(m.http_status_code for m in recorded if m.http_status_code or not m.is_success)
    del expected[200]
    assert expected == {error["status_code"]: error["count"] for error in reads.error_counts(telemetry._destination, 1)}


@in_sync
def test_an_old_database(
    telemetry: ComprehensiveExtractionTelemetry, database: Path, same: Same,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Rows from before there were rollups count; with new ones beside them; and after they are in rollups, once however
    often they are added."""
    record(telemetry, 80, 3, monkeypatch)
    make_old(database)
    assert Coverage(rows=80, unrolled=80) == rolled(database)
    with TelemetryStore(database, mode="sync") as store:
        telemetry = ComprehensiveExtractionTelemetry(store=store)
        record(telemetry, 40, 4, monkeypatch)
        assert (40, 80) == (rolled(database).extractions, rolled(database).unrolled)
        same()
        monkeypatch.setattr(rebuilding, "STEP_ROWS", 7)
        assert 80 == rebuild(telemetry._destination)
        assert (120, 0) == (rolled(database).extractions, rolled(database).unrolled)
        same()
        monkeypatch.setattr(rebuilding, "STEP_ROWS", 50)
        assert 0 == rebuild(telemetry._destination)
        assert 120 == rebuild(telemetry._destination, again=True)
        assert (120, 0) == (rolled(database).extractions, rolled(database).unrolled)
    same()


class Interrupted(Exception):
    pass


@in_sync
def test_interrupted_while_recorders_go_on(
    telemetry: ComprehensiveExtractionTelemetry, database: Path, same: Same,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """After each step, with extractions that come between them, reports are right, and the next one goes on."""
    record(telemetry, 60, 5, monkeypatch)
    make_old(database)
    with TelemetryStore(database, mode="sync") as store:
        telemetry = ComprehensiveExtractionTelemetry(store=store)
        record(telemetry, 10, 6, monkeypatch)

        def interrupt(rows: int) -> None:
            telemetry.record_extraction(extraction(Random(rows)))
            raise Interrupted

        for step in range(3):
            monkeypatch.setattr(rebuilding, "STEP_ROWS", 20)
            with pytest.raises(Interrupted):
                rebuild(telemetry._destination, told=interrupt)
            monkeypatch.undo()
            found = rolled(database)
            assert (40 - 20 * step, 0) == (found.unrolled, found.lost)
            same()
        assert 0 == rebuild(telemetry._destination)
    assert 73 == rolled(database).extractions


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["daemon"])
def test_two_at_once(
    telemetry: ComprehensiveExtractionTelemetry, open_store: Callable[[], TelemetryStore], database: Path,
    same: Same, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Two that rebuild and a recorder: each row is added once."""
    record(telemetry, 120, 7, monkeypatch)
    rebuild(telemetry._destination)
    with telemetry.store.connection() as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'extraction%'")
        ]
    assert {table.name for table in ROLLUP_TABLES} < set(tables)
    for table in ROLLUP_TABLES:
        telemetry.store.submit(lambda connection, name=table.name: connection.execute(f"DELETE FROM {name}"))
    telemetry.flush()
    monkeypatch.setattr(rebuilding, "STEP_ROWS", 10)
    stores = [open_store(), open_store()]
    threads = [threading.Thread(target=rebuild, args=(Destination(store, logger=LOG),)) for store in stores]
    for thread in threads:
        thread.start()
    random = Random(8)
    for _ in range(30):
        telemetry.record_extraction(extraction(random))
    for thread in threads:
        thread.join()
    telemetry.flush()
    rebuild(telemetry._destination)
    found = rolled(database)
    assert (150, 0, 0, 0) == (found.extractions, found.unrolled, found.pruned, found.lost)
    same()


#: Records extractions until it is killed, and tells how many.
PROGRAM = """
import sys
from random import Random
from producers.extraction import ComprehensiveExtractionTelemetry
from telemetry_bus import TelemetryStore
from tests.producers.test_rollups import extraction

random = Random(int(sys.argv[2]))
telemetry = ComprehensiveExtractionTelemetry(store=TelemetryStore(sys.argv[1], mode="daemon", linger_ms=5))
for number in range(100_000):
    telemetry.record_extraction(extraction(random))
    print(number, flush=True)
"""


@pytest.mark.integration
def test_producers_and_writers_that_are_killed(
    database: Path, no_writer_left: None, same: Same, tmp_path: Path
) -> None:
    """SIGKILL for writers in the middle of their work, then for the producers: rows and rollups stay one."""
    root = Path(__file__).parents[2]
    producers = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(database), seed], stdout=subprocess.PIPE, cwd=root)
        for seed in "12"
    ]
    try:
        for _ in range(3):
            for producer in producers:
                assert producer.stdout is not None
                for _ in range(100):
                    assert producer.stdout.readline()
            for pid in wait_until(lambda: writers_below(tmp_path), "a writer"):
                send(pid, signal.SIGKILL)
    finally:
        for producer in producers:
            producer.kill()
            producer.communicate()
    with TelemetryStore(database, mode="daemon") as store:
        ComprehensiveExtractionTelemetry(store=store).record_extraction(extraction(Random(3)))
        assert 0 == telemetry_bus(["flush", "--database", str(database)])
    found = rolled(database)
    assert found.rows > 400
    assert (found.rows, 0, 0, 0) == (found.extractions, found.unrolled, found.pruned, found.lost)
    same()


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["daemon"])
def test_pruned_rows_stay_in_rollups(
    telemetry: ComprehensiveExtractionTelemetry, database: Path, same: Same,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Rollups outlive the rows, a rebuild too; over days whose rows are there, both are the same. Pruned by their own
    hour they go."""
    record(telemetry, 100, 9, monkeypatch)
    rows = ["prune", "--database", str(database), "--table", "extraction_telemetry_v2", "--older-than"]
    assert 0 == telemetry_bus([*rows, "7d"])
    found = rolled(database)
    assert (100, 0, 0) == (found.extractions, found.unrolled, found.lost)
    assert 0 < found.pruned == 100 - found.rows
    kept = (6.37, 0.01)
    same(kept)
    rebuild(telemetry._destination, again=True)
    assert 100 == rolled(database).extractions == sum(row["total_attempts"] for row in telemetry.get_publisher_stats())
    same(kept)
    for table in ROLLUP_TABLES:
        assert 0 == telemetry_bus(
            [
                "prune",
                "--database",
                str(database),
                "--table",
                table.name,
                "--column",
                next(iter(table.columns)),
                "--older-than",
                "8d",
            ]
        )
    assert 100 > rolled(database).extractions >= found.rows


@in_sync
def test_rows_of_other_programs(
    telemetry: ComprehensiveExtractionTelemetry, database: Path, same: Same,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Times in other forms or none, documents that cannot be read, rows that come late: before and after they are
    added."""
    record(telemetry, 30, 10, monkeypatch)
    now = utc_now().replace(tzinfo=None, microsecond=0)
    moments = [
        f"{now - timedelta(days=2):%Y-%m-%dT%H:%M:%S}Z", f"{now - timedelta(hours=30):%Y-%m-%d %H:%M:%S}+0530",
        f"{now:%Y-%m-%dT%H:%M:%S.%f}", "yesterday", None, 17, "",
    ]  # fmt: skip
    broken = ('["m"', '{"m": 1', "[1]", "text", None, "17", '{"m": 4.5}', '["m", "m"]', '{"m": {"title": 1}}')
    random = Random(11)
    for moment in moments * 6:
        values = [moment, random.choice((None, "A", "")), random.choice((None, "h")), random.choice((None, 12.5, "x"))]
        documents = [random.choice(broken) for _ in range(4)]
        telemetry.store.execute(  # type: ignore[attr-defined]
            "INSERT INTO extraction_telemetry_v2 (operation_id, article_id, url, start_time, created_at, publisher,"
            " host, total_duration_ms, method_timings, method_success, methods_attempted, field_extraction)"
            " VALUES ('o', 'a', 'u', '', ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, *documents),
        )
    assert (30, 42) == (rolled(database).extractions, rolled(database).unrolled)
    same()
    monkeypatch.setattr(rebuilding, "STEP_ROWS", 5)
    assert 42 == rebuild(telemetry._destination)
    assert (72, 0) == (rolled(database).extractions, rolled(database).unrolled)
    same()


@in_sync
def test_rows_that_are_changed(
    telemetry: ComprehensiveExtractionTelemetry, database: Path, same: Same,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """No recorder changes a row. Who does so by hand rebuilds all; lost rollups are made again without being asked."""
    record(telemetry, 60, 12, monkeypatch)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE extraction_telemetry_v2 SET publisher = 'Other', is_success = 1 WHERE id % 3 = 0")
        connection.execute("UPDATE extraction_telemetry_v2 SET created_at = '2026-01-01T00:00:00' WHERE id % 5 = 0")
    with pytest.raises(AssertionError):
        same()
    rebuild(telemetry._destination, again=True)
    same()
    with closing(sqlite3.connect(database)) as connection, connection:
        for table in ROLLUP_TABLES:
            connection.execute(f"DELETE FROM {table.name} WHERE publisher = 'Other'")
    assert 20 <= rolled(database).lost
    rebuild(telemetry._destination)
    same()


@in_sync
def test_a_step_that_fails(
    telemetry: ComprehensiveExtractionTelemetry, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, not tried for ever."""
    record(telemetry, 5, 13, monkeypatch)
    make_old(database)
    with TelemetryStore(database, mode="sync") as store:
        destination = Destination(store, logger=LOG)
        monkeypatch.setattr(rebuilding, "_CLAIM", rebuilding._CLAIM + " AND 0")
        with pytest.raises(Exception, match="could not be added"):
            rebuild(destination)


@pytest.mark.integration
def test_the_command(
    database: Path, no_writer_left: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It tells how far rollups reach and what to do, and does it through a writer."""
    with TelemetryStore(database, mode="sync") as store:
        record(ComprehensiveExtractionTelemetry(store=store), 12, 15, monkeypatch)
    make_old(database)
    assert 0 == telemetry_report(["rollup", "--database", str(database)])
    assert "12 rows to add: telemetry-report rollup --rebuild" in capsys.readouterr().out
    for _ in range(2):
        assert 0 == telemetry_report(["rollup", "--rebuild", "--all", "--database", str(database), "--format", "json"])
        (found,) = json.loads(capsys.readouterr().out)
        assert (12, 12, 0, 0, 0) == tuple(found[key] for key in ("extractions", "rows", "unrolled", "pruned", "lost"))
    assert 1 == telemetry_report(["rollup", "--rebuild", "--database", str(database.with_name("none.db"))])


def test_without_a_table(database: Path) -> None:
    """There is nothing to roll up."""
    assert Coverage() == rolled(database)
    with TelemetryStore(database, mode="sync") as store:
        assert 0 == rebuild(Destination(store, logger=LOG))


def test_buckets() -> None:
    """SQL and Python put each duration into the same bucket, and a quantile is within the stated error."""
    random = Random(14)
    values = [0.0, -1.0, 0.999, 1e300, *histogram.BOUNDS_MS, *(random.lognormvariate(6, 3) for _ in range(500))]
    with closing(sqlite3.connect(":memory:")) as connection:
        query = f"SELECT {histogram.bucket_sql('x')} FROM (SELECT value AS x FROM json_each(?))"
        found = [bucket for (bucket,) in connection.execute(query, (json.dumps(values),))]
        assert [(None,)] == connection.execute(f"SELECT {histogram.bucket_sql('NULL')}").fetchall()
    assert [histogram.bucket_of(value) for value in values] == found
    for _ in range(50):
        sample = sorted(random.lognormvariate(6, 1) for _ in range(random.randrange(1, 200)))
        share = random.random()
        exact = sample[max(1, -int(-share * len(sample) // 1)) - 1]
        told = histogram.quantile(Counter(map(histogram.bucket_of, sample)), share)
        assert exact == pytest.approx(told, rel=histogram.RELATIVE_ERROR + 1e-9)
    assert histogram.quantile({}, 0.5) is None
    assert (1.0, 2.0**22) == (histogram.quantile({0: 1}, 0.5), histogram.quantile({len(histogram.BOUNDS_MS): 1}, 1))
