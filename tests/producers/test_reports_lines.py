"""The lines that the reports on extractions print."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from producers import reports
from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics


@pytest.mark.parametrize("name", ["errors", "methods", "publishers", "fields"])
def test_headings_stand_on_lines_of_their_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real line breaks, also where there is nothing to show: never a backslash and an n."""
    telemetry = ComprehensiveExtractionTelemetry(tmp_path / "telemetry.db")
    monkeypatch.setattr(reports, "ComprehensiveExtractionTelemetry", lambda: telemetry)
    parser = argparse.ArgumentParser()
    reports.add_telemetry_parser(parser.add_subparsers())
    given = parser.parse_args(["telemetry", name])
    assert 0 == given.func(given)
    assert (1, False) == ((out := capsys.readouterr().out).count("\n"), "\\" in out)
    metrics = ExtractionMetrics("op", "article", "http://a.example/", "A")
    metrics.start_method("selenium")
    metrics.end_method("selenium", True, extracted_fields={"title": "News"})
    metrics.set_http_metrics(404, 0, 0)
    telemetry.record_extraction(metrics)
    assert 0 == given.func(given)
    out = capsys.readouterr().out
    assert "\\" not in out
    assert 4 <= len(out.splitlines())
