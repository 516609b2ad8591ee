"""Moments of every form that rows have: read, ordered and updated as points in time, with the index for new rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from producers.columns import Moment, from_moment
from producers.content_cleaning import ContentCleaningTelemetry
from producers.destination import compile_query
from producers.extraction import ComprehensiveExtractionTelemetry
from producers.extraction.schema import COUNT_ERROR, HTTP_ERRORS
from producers.extraction.tables import EXTRACTIONS
from producers.moments import comparable
from producers.operations import OperationTracker
from producers.reports import cleaning, crawling
from producers.schema import definitions, upsert_job
from producers.values import utc_now, utc_text
from telemetry_bus import TelemetryStore

from .described import described

Stored = Callable[[str], list[dict[str, Any]]]

#: How programs write a moment down, from an aware one.
FORMS: dict[str, Callable[[datetime], Any]] = {
    "ours": lambda moment: utc_text(moment),
    "ours, seconds": lambda moment: utc_text(moment, fraction=False),
    "T": lambda moment: moment.replace(tzinfo=None).isoformat(),
    "T and Z": lambda moment: moment.replace(tzinfo=None).isoformat() + "Z",
    "t and z": lambda moment: moment.replace(tzinfo=None).isoformat().lower() + "z",
    "Z, milliseconds": lambda moment: moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
    "a space and an offset": lambda moment: moment.isoformat(" "),
    "east": lambda moment: moment.astimezone(timezone(timedelta(hours=14))).isoformat(),
    "west": lambda moment: moment.astimezone(timezone(timedelta(hours=-12))).isoformat(),
    "half an hour": lambda moment: moment.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat(" "),
    "no colon": lambda moment: moment.astimezone(timezone(timedelta(hours=-7))).strftime("%Y-%m-%dT%H:%M:%S.%f%z"),
    "hours alone": lambda moment: moment.astimezone(timezone(timedelta(hours=9))).strftime("%Y-%m-%d %H:%M:%S+09"),
    "seconds since 1970": lambda moment: int(moment.timestamp()),
    "seconds with a fraction": lambda moment: moment.timestamp(),
    "milliseconds": lambda moment: int(moment.timestamp() * 1000),
    "microseconds": lambda moment: int(moment.timestamp()) * 10**6 + moment.microsecond,
    "nanoseconds": lambda moment: (int(moment.timestamp()) * 10**6 + moment.microsecond) * 1000,
    "minutes": lambda moment: moment.strftime("%Y-%m-%dT%H:%MZ"),
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@pytest.fixture
def mode() -> str:
    return "sync"


def execute(database: Path, sql: str, *rows: tuple[Any, ...]) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(sql, rows)


@each_form
def test_they_compare_as_points_in_time(form: Callable[[datetime], Any]) -> None:
    """Each form is within a second of the same moment in ours, whatever the day is elsewhere."""
    moment = datetime(2026, 3, 1, 0, 30, 15, 250_000, tzinfo=UTC)
    with closing(sqlite3.connect(":memory:")) as connection:
        ((found,),) = connection.execute(f"SELECT {comparable('x', 'sqlite')} FROM (SELECT ? AS x)", (form(moment),))
    assert moment.replace(tzinfo=None) - datetime.fromisoformat(found) <= timedelta(seconds=15.25)
    assert datetime.fromisoformat(found) <= moment.replace(tzinfo=None)
    assert " " == found[10]


@pytest.mark.parametrize(
    "text", [None, "", "yesterday", 5, -5.5, 99_999_999, "2026-13-01 00:00:00Z", b"2026-01-01 00:00:00"]
)
def test_what_is_no_moment(text: object) -> None:
    """It is NULL."""
    with closing(sqlite3.connect(":memory:")) as connection:
        ((found,),) = connection.execute(f"SELECT {comparable('x', 'sqlite')} FROM (SELECT ? AS x)", (text,))
    assert found is None


def reports(store: TelemetryStore) -> dict[str, Callable[[float], int]]:
    """How many rows each reader finds within so many days, and the table and column that it looks at."""
    telemetry, tracker = ComprehensiveExtractionTelemetry(store=store), OperationTracker(store)

    def since(days: float) -> str:
        return utc_text(utc_now() - timedelta(days=days))

    return {
        "http_error_summary last_seen": lambda days: len(telemetry.get_error_summary(days)),
        "extraction_telemetry_v2 created_at": lambda days: sum(
            row["total_attempts"] for row in telemetry.get_publisher_stats(days)
        ),
        "content_type_detection_telemetry created_at": lambda days: len(
            telemetry.get_content_type_detections(days=days)
        ),
        "discovery_outcomes timestamp": lambda days: tracker.get_discovery_outcomes_report(hours_back=days * 24)[
            "summary"
        ]["total_sources"],
        "byline_cleaning_telemetry extraction_timestamp": lambda days: sum(
            row["bylines"] for row in cleaning.bylines(tracker._destination, since=since(days)).rows
        ),
        "content_cleaning_sessions start_time": lambda days: sum(
            row["sessions"] for row in cleaning.contents(tracker._destination, since=since(days)).rows
        ),
        "operations created_at": lambda days: len(crawling.operations(tracker._destination, since=since(days)).rows),
    }


@pytest.mark.parametrize("place", sorted(reports(None)))  # type: ignore[arg-type]
def test_reports_of_the_last_days(store: TelemetryStore, database: Path, place: str) -> None:
    """Within a day is within a day: an hour earlier is in, an hour before that is out, in every form."""
    table, _, column = place.partition(" ")
    schema = described()[table]
    execute(database, definitions(schema)[0], ())
    required = [each for each in schema.columns.values() if (each.required and not each.counted) or each.key]
    names = [each.name for each in required if not each.counted and each.name != column]
    now = utc_now()
    rows = []
    for number, form in enumerate(FORMS.values()):
        for age in (23, 25):
            values = [f"{number} {age} {name}" for name in names]
            rows.append((*values, form(now - timedelta(hours=age))))
    places = ", ".join("?" * (len(names) + 1))
    execute(database, f"INSERT INTO {table} ({', '.join([*names, column])}) VALUES ({places})", *rows)
    assert len(FORMS) == reports(store)[place](1)


def test_a_row_of_ours_is_found_by_the_index(database: Path) -> None:
    """The last days are a range of the index, not a look at every row."""
    query = select(EXTRACTIONS.c.id).where(from_moment(EXTRACTIONS.c.created_at, utc_text()))
    sql, parameters = compile_query(query, "sqlite", "qmark")
    with closing(sqlite3.connect(":memory:")) as connection:
        for text in definitions(described()[EXTRACTIONS.name]):
            if not text.startswith("ALTER"):
                connection.execute(text)
        plan = str(connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall())
    assert "INDEX ix_extraction_telemetry_v2_created_at (created_at>?)" in plan


def test_newest_first(store: TelemetryStore, database: Path, stored: Stored) -> None:
    """Rows of all forms in the order in which they happened."""
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    tracker = OperationTracker(store)
    tracker.start_operation("now", "x")  # type: ignore[arg-type]
    execute(
        database,
        "INSERT INTO operations (id, operation_type, status, created_at) VALUES (?, 'x', 'completed', ?)",
        *((str(number), form(begin + number * timedelta(minutes=61))) for number, form in enumerate(FORMS.values())),
    )
    rows = crawling.operations(tracker._destination).rows
    assert ["now", *map(str, reversed(range(len(FORMS))))] == [row["id"] for row in rows]


@each_form
@pytest.mark.parametrize("hours", [-1, 1])
def test_the_last_moment_of_a_summary(
    store: TelemetryStore, database: Path, stored: Stored, form: Callable[[datetime], Any], hours: int
) -> None:
    """Late news does not take it back, and an older one in another form does not hold it up."""
    execute(database, definitions(HTTP_ERRORS)[0], ())
    moment = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)
    there = form(moment)
    execute(
        database,
        "INSERT INTO http_error_summary (host, status_code, error_type, count, first_seen, last_seen) "
        "VALUES ('a', 503, 'x', 1, ?, ?)",
        (there, there),
    )
    given = utc_text(moment + timedelta(hours=hours))
    row = {"host": "a", "status_code": 503, "error_type": "x", "count": 1, "first_seen": given, "last_seen": given}
    store.submit(upsert_job(HTTP_ERRORS, row, upsert=COUNT_ERROR))
    assert [{"count": 2, "last_seen": given if hours > 0 else there}] == stored(
        "SELECT count, last_seen FROM http_error_summary"
    )


def test_the_last_session_of_a_domain(store: TelemetryStore, database: Path) -> None:
    """It is the latest one, not the one whose text is the largest."""
    telemetry = ContentCleaningTelemetry(store=store)
    telemetry.start_cleaning_session("a.com", 1)
    telemetry.finalize_cleaning_session(1, 1, 1, 1.0)
    last = telemetry.get_domain_telemetry_summary("a.com")["session_summary"]["last_analysis"]
    earlier = utc_now() - timedelta(minutes=1)
    execute(
        database,
        "INSERT INTO content_cleaning_sessions (telemetry_id, domain, end_time) VALUES (?, 'a.com', ?)",
        *((name, form(earlier)) for name, form in FORMS.items()),
    )
    assert last == telemetry.get_domain_telemetry_summary("a.com")["session_summary"]["last_analysis"]
    (row,) = cleaning.contents(telemetry._destination).rows
    assert last == row["last_session"]


def test_on_a_server_the_column_says_it() -> None:
    """PostgreSQL has moments of its own."""
    sql, _ = compile_query(select(EXTRACTIONS.c.id).order_by(Moment(EXTRACTIONS.c.created_at)), "postgresql", "qmark")
    assert sql.endswith("ORDER BY extraction_telemetry_v2.created_at")
