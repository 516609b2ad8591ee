"""The pages of `telemetry-report serve` in a real browser: two widths, hostile rows, what a person does."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from producers.byline import BylineCleaningTelemetry
from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
from telemetry_bus import TelemetryStore

from .drawing import chromium, launched, served

pytestmark = [pytest.mark.slow, pytest.mark.integration]

HOSTILE = "<script>document.title='owned'</script>\x1b[31m\u202e" + "A" * 10_000
VIEWS = (
    "/",
    "/publishers",
    "/publisher?name=A",
    "/errors",
    "/methods",
    "/samples?status=404",
    "/bylines?all",
    "/discovery",
    "/discovery/attempts",
    "/operations",
    "/queue",
    "/dead-letters",
    "/dead-letters/1",
    "/live?table=extraction_telemetry_v2",
    "/reports/publishers",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a screen. A machine without it skips, continuous integration must have it."""
    path = chromium()
    if path is None and os.environ.get("CI") == "true":
        pytest.fail("chromium is not installed")
    if path is None:
        pytest.skip("chromium is not installed")
    with launched(path) as opened:
        yield opened


@pytest.fixture
def filled(database: Path) -> Path:
    with TelemetryStore(database, mode="sync") as store:
        telemetry = ComprehensiveExtractionTelemetry(store=store)
        for publisher, status in (("A", 200), ("A", 404), (HOSTILE, 500), ("B", None)):
            metrics = ExtractionMetrics("o", "a", f"https://h/{HOSTILE}", publisher)
            metrics.start_method(HOSTILE)
            metrics.end_method(HOSTILE, False, HOSTILE, {})
            metrics.set_http_metrics(status, 1, 1)
            telemetry.record_extraction(metrics)
    with TelemetryStore(database) as store:
        for number in range(3):
            store.execute("INSERT INTO later (text) VALUES (?)", (f"{number} {HOSTILE}",))
        store.flush()
    return database


@pytest.fixture
def address(filled: Path) -> Iterator[str]:
    """Where the pages are served."""
    with served(filled) as where:
        yield where


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Fails for errors of scripts, and for what the policy of the pages has kept from running."""
    with browser.new_context() as context:
        opened = context.new_page()
        errors: list[str] = []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        yield opened
        assert [] == errors


@pytest.mark.parametrize("width", [1280, 390])
def test_each_view_fits(width: int, address: str, page: Page) -> None:
    """Wide tables scroll by themselves, the page does not; no value runs as a script."""
    page.set_viewport_size({"width": width, "height": 900})
    for view in VIEWS:
        answer = page.goto(address + view)
        assert answer is not None
        assert answer.ok, view
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        assert "owned" not in page.title()


def test_from_a_publisher_to_its_errors(address: str, page: Page) -> None:
    """By clicks alone."""
    page.goto(address)
    page.get_by_role("link", name="publishers", exact=True).click()
    page.get_by_role("link", name="A", exact=True).click()
    assert "404" in page.locator(".legend").inner_text()
    page.locator("svg.chart rect").first.click()
    page.get_by_role("heading", name="Newest extractions").wait_for()
    assert "404" in page.locator("tbody").inner_text()


def test_dead_letters_of_a_mistake_are_run_again(address: str, filled: Path, page: Page) -> None:
    """A group after a question, each result stated; then they are gone."""
    page.goto(f"{address}/dead-letters")
    page.get_by_role("link", name="run again", exact=True).click()
    with TelemetryStore(filled, mode="sync") as store:
        store.execute("CREATE TABLE later (text TEXT)")
    page.get_by_role("button", name="Run again").click()
    page.get_by_text("3 applied, 0 failed").wait_for()
    page.goto(f"{address}/dead-letters")
    page.get_by_text("There are no dead letters").wait_for()
    page.goto(f"{address}/dead-letters/question?action=retry&ids=1")
    page.get_by_role("button").click()
    assert "failed" in page.locator("main").inner_text()


def test_rows_come_as_they_are_written(address: str, filled: Path, page: Page) -> None:
    """The newest stands above; a filter hides the others; what came in a pause is shown after it."""
    page.goto(f"{address}/live?table=extraction_telemetry_v2")
    rows = page.locator("#rows tbody tr")
    rows.nth(3).wait_for()
    page.get_by_label("filter").fill("of the test")
    page.locator("#pause").click()
    with TelemetryStore(filled, mode="sync") as store:
        metrics = ExtractionMetrics("o", "a", "https://h/of the test", "C")
        ComprehensiveExtractionTelemetry(store=store).record_extraction(metrics)
    page.locator("#pause").click()
    page.locator("#rows tbody tr:visible").first.wait_for()
    assert 1 == page.locator("#rows tbody tr:visible").count()


def test_what_a_person_says_of_a_byline(address: str, filled: Path, page: Page) -> None:
    """It waits for a look, its steps are seen, and its label is stored by the writer."""
    with TelemetryStore(filled, mode="sync") as store:
        byline = BylineCleaningTelemetry(store=store)
        byline.start_cleaning_session(f"By Ann {HOSTILE}", source_name="A")
        byline.log_transformation_step("prefix", f"By Ann {HOSTILE}", "Ann", removed_content=f"By {HOSTILE}")
        byline.finalize_cleaning_session(["Ann"], requires_manual_review=True)
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(f"{address}/bylines")
    page.get_by_role("link", name="By Ann").click()
    assert page.locator("del").inner_text().startswith("By ")
    page.get_by_label("it is").select_option("incorrect")
    page.get_by_label("who says so").fill("Eve")
    page.get_by_role("button", name="Keep").click()
    page.get_by_text("No byline waits for a look.").wait_for()
    with closing(sqlite3.connect(filled)) as connection:
        found = connection.execute("SELECT human_label, reviewed_by FROM byline_cleaning_telemetry").fetchall()
    assert [("incorrect", "Eve")] == found
