"""The figures of an overview."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

import pytest

from producers.destination import Destination
from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
from producers.overview import overview
from producers.values import utc_now
from telemetry_bus import TelemetryStore

from .test_rollups import make_old

LOG = logging.getLogger(__name__)


def record(
    store: TelemetryStore, patch: pytest.MonkeyPatch, moment: datetime, *statuses: int | None, ms: float = 1000.0
) -> None:
    telemetry = ComprehensiveExtractionTelemetry(store=store)
    patch.setattr("producers.extraction.rows.utc_now", lambda: moment)
    for status in statuses:
        metrics = ExtractionMetrics("o", "a", "https://h/x", "P")
        metrics.set_http_metrics(status, 1, 1)
        metrics.is_success, metrics.total_duration_ms = status == 200, ms
        telemetry.record_extraction(metrics)
    patch.undo()


@pytest.mark.parametrize("mode", ["sync"])
def test_the_last_hour_and_the_same_a_week_ago(
    store: TelemetryStore, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the last whole hour; before and after it nothing counts. From rows it is the same."""
    now = utc_now()
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    record(store, monkeypatch, hour, 200, 200, 404)
    record(store, monkeypatch, hour + timedelta(minutes=59, seconds=59), 503, None)
    record(store, monkeypatch, hour - timedelta(days=7), 200, None)
    for outside in (hour - timedelta(seconds=1), hour + timedelta(hours=1), hour - timedelta(days=7, seconds=1)):
        record(store, monkeypatch, outside, 500, 500, 500, 500, 500, ms=9000.0)

    def values(period: str) -> dict[str, float]:
        found = [series for series in overview(Destination(store, logger=LOG), now) if series.labels[0][1] == period]
        return {" ".join([series.name, *(value for _, value in series.labels[1:])]): series.value for series in found}

    expected = {
        "telemetry_extractions": 5, "telemetry_extraction_successes": 2, "telemetry_extraction_errors 3xx_redirect": 0,
        "telemetry_extraction_errors 4xx_client_error": 1, "telemetry_extraction_errors 5xx_server_error": 1,
        "telemetry_extraction_errors no_response": 1,
    }  # fmt: skip
    for again in (True, False):
        found = values("last_hour")
        durations = [found.pop(f"telemetry_extraction_duration_seconds {share}") for share in ("0.5", "0.95")]
        assert expected == found
        assert [pytest.approx(1.0, rel=0.1)] * 2 == durations
        week_ago = values("week_ago")
        assert (2, 1) == (week_ago["telemetry_extractions"], week_ago["telemetry_extraction_errors no_response"])
        store.shutdown(wait=True)
        if again:
            make_old(database)
            store = TelemetryStore(database, mode="sync")


def test_nothing_yet(database: Any) -> None:
    """Counts are 0, and there is no duration."""
    with TelemetryStore(database, mode="sync") as store:
        found = overview(Destination(store, logger=LOG))
    assert {0} == {series.value for series in found}
    assert "telemetry_extraction_duration_seconds" not in {series.name for series in found}
