"""Discovery and operations over time: what is read of them, and their pages."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from producers.dashboard.app import make_app
from producers.dashboard.charts import MOST_SERIES, stacked
from producers.destination import Destination
from producers.operations import DiscoveryOutcome, DiscoveryResult, OperationTracker, timeline
from producers.operations.schema import OPERATIONS
from producers.schema import insert_job
from producers.values import utc_now, utc_text
from telemetry_bus import TelemetryStore

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e" + "A" * 10_000
NEWS, LATE = DiscoveryOutcome.NEW_ARTICLES_FOUND, DiscoveryOutcome.TIMEOUT


def fill(store: TelemetryStore) -> None:
    """Two runs, the second one with two failures; one operation that runs for ten minutes, and one that ended."""
    tracker = OperationTracker(store=store)
    dialect = Destination(store, logger=logging.getLogger(__name__)).dialect
    for run, source, outcome in (("1", "s", NEWS), ("2", "s", LATE), ("2", HOSTILE, LATE), ("2", "t", NEWS)):
        result = DiscoveryResult(outcome, 3, 2, error_details=source, metadata={"discovery_time_ms": 1.5})
        tracker.record_discovery_outcome(run, source, source, f"https://{source}", result)
    now = utc_now()
    begun = {"created_at": now - timedelta(minutes=10), "updated_at": now, "operation_type": "crawl_discovery"}
    far = {"processed_items": 50, "total_items": 200, "failed_items": 1}
    for name, status, metrics in (("r", "in_progress", far), (HOSTILE, "started", ["x"]), ("c", "completed", far)):
        row = {"id": name, "status": status, "metrics": metrics, **begun}
        store.submit(insert_job(OPERATIONS, row, dialect=dialect))
    store.flush(raise_on_failure=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, database: Path) -> str:
    """A filled database of each kind."""
    url = str(database) if request.param == "sqlite" else request.getfixturevalue("postgresql")
    with TelemetryStore(url, mode="sync") as store:
        fill(store)
    return url


def summed(hours: Mapping[str, Mapping[str, int]]) -> Mapping[str, int]:
    return sum((Counter(counts) for counts in hours.values()), Counter())


def client(url: str) -> TestClient:
    return TestClient(make_app(url), base_url="http://localhost")


def test_what_is_read(url: str) -> None:
    """Outcomes by the hour, runs with the newest first, failed attempts of a run, and the pace of what runs."""
    since = utc_text(utc_now() - timedelta(days=1))
    with TelemetryStore(url, mode="sync") as store:
        destination = Destination(store, logger=logging.getLogger(__name__))
        assert {"timeout": 2, "new_articles_found": 2} == summed(timeline.outcomes_by_hour(destination, since))
        assert {"timeout": 1, "new_articles_found": 1} == summed(timeline.outcomes_by_hour(destination, since, "s"))
        runs = timeline.runs(destination, since)
        assert {("1", 1, 0, 2), ("2", 3, 2, 6)} == {
            (run["operation_id"], run["attempts"], run["failures"], run["articles_new"]) for run in runs
        }
        failed = timeline.attempts(destination, operation="2", failed=True)
        assert [HOSTILE, "s"] == [row["source_url"].removeprefix("https://") for row in failed]
        assert [] == timeline.attempts(destination, until=since)
        assert 4 == len(timeline.attempts(destination, since=since))
        running = {row["id"]: row for row in timeline.running(destination)}
    assert {"r", HOSTILE} == set(running)
    one = running["r"]
    assert (50, 200, 1) == (one["done"], one["total"], one["failed"])
    assert 5.0 == pytest.approx(one["per_minute"], rel=0.01)
    assert 30 * 60_000 == pytest.approx(one["left_ms"], rel=0.01)
    assert (0, None, None) == tuple(running[HOSTILE][name] for name in ("done", "total", "left_ms"))


def test_pages(url: str) -> None:
    """From the chart to a run and its failures; no value becomes markup."""
    pages = client(url)
    discovery = pages.get("/discovery").text
    assert "/discovery/attempts?operation=2&amp;failed=1" in discovery
    assert "outcome=timeout" in discovery
    failures = pages.get("/discovery/attempts?operation=2&failed=1").text
    assert 2 == failures.count('<td class="moment">')
    hour = f"{utc_now() - timedelta(hours=1):%Y-%m-%d+%H}"
    assert 4 == pages.get(f"/discovery/attempts?hour={hour}&hours=3").text.count('<td class="moment">')
    assert "No attempt is so" in pages.get("/discovery/attempts?hour=2001-01-01+00&hours=2").text
    operations = pages.get("/operations").text
    assert "30 min 0 s" in operations
    for text in (discovery, failures, operations):
        assert "<script" not in text
        assert "\x1b" not in text


def test_pages_of_nothing(tmp_path: Path) -> None:
    """Of a database without these tables, of none, and of a question that is none."""
    TelemetryStore(tmp_path / "empty.db", mode="sync").shutdown(wait=True)
    (tmp_path / "empty.db").touch()
    pages = client(str(tmp_path / "empty.db"))
    assert "No discovery has been recorded" in pages.get("/discovery").text
    assert "No attempt is so" in pages.get("/discovery/attempts").text
    assert "No operation runs" in pages.get("/operations").text
    for wrong in ("hour=x", "hour=2026-01-01+00&hours=x", "hour=9999-12-31+23&hours=99999999999"):
        assert 400 == pages.get(f"/discovery/attempts?{wrong}").status_code
    assert 503 == client(str(tmp_path / "none.db")).get("/discovery").status_code


def test_moments_that_are_none(database: Path) -> None:
    """A column may hold anything in SQLite: such rows are left out of the chart, or stand at its end."""
    with TelemetryStore(database, mode="sync") as store:
        fill(store)
        for moment in ("zzzz", "9999-12-31 23:59:59", b"\xff", 5, None):
            store.execute("UPDATE discovery_outcomes SET timestamp = ? WHERE source_name = 't'", (moment,))
            store.execute("UPDATE operations SET created_at = ?, metrics = '{\"total_items\": []}'", (moment,))
            for page in ("/discovery", "/discovery/attempts", "/operations"):
                assert 200 == client(str(database)).get(page).status_code, (page, moment)


def test_a_chart() -> None:
    """What is good is below; each series has a colour of its own, and what is too many is one; nothing leaves the
    chart, whatever its hour."""
    names = [f"name{number}" for number in range(MOST_SERIES + 3)]
    counts = {name: 10 + number for number, name in enumerate(names)}
    chart = stacked({"2001-01-01 00": counts, "9999-12-31 23": {names[-2]: 1}}, 30, {names[-2]})
    assert names[-2] == chart["names"][0][0]
    assert MOST_SERIES == len({colour for *_, colour in chart["names"]})
    assert sum(counts.values()) + 1 == chart["others"] + sum(count for _, count, _ in chart["names"])
    width, height = chart["size"]
    assert all(0 <= part.x < width and -0.01 <= part.y < height for part in chart["parts"])
    assert height == pytest.approx(sum(part.height for part in chart["parts"] if part.x == 0))
