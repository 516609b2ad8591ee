"""The pages of `telemetry-report serve`."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from producers.dashboard.app import make_app
from producers.dashboard.pages import MOST_LETTERS
from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
from producers.reports.catalogue import REPORTS
from producers.reports.command import main
from telemetry_bus import TelemetryStore

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"


def client(database: Path | str, token: str | None = None, host: str = "localhost") -> TestClient:
    return TestClient(make_app(str(database), token), base_url=f"http://{host}")


@pytest.fixture
def filled(database: Path) -> Path:
    with TelemetryStore(database, mode="sync") as store:
        telemetry = ComprehensiveExtractionTelemetry(store=store)
        for publisher, status in ((HOSTILE, 200), ("=B", 404), ("A" * 10_000, None)):
            metrics = ExtractionMetrics("o", "a", "https://h/x", publisher)
            metrics.set_http_metrics(status, 1, 1)
            telemetry.record_extraction(metrics)
    return database


@pytest.mark.parametrize(
    "page",
    [
        *("", "metrics", "healthz", "publishers", "publisher?name=%3DB", "publisher", "errors", "methods", "queue"),
        *(
            "samples?status=404",
            "samples?status=no_response&hour=2026-12-01+09&hours=3",
            "samples?method=x&publisher=",
            "live",
        ),
        *("dead-letters", "dead-letters?error=x", *(f"reports/{name}" for name in REPORTS)),
    ],
)
def test_every_page_of_nothing_and_of_something(page: str, filled: Path, tmp_path: Path) -> None:
    """Each answers, with what forbids scripts, and no value of a row becomes markup."""
    TelemetryStore(tmp_path / "empty.db", mode="sync").shutdown(wait=True)
    (tmp_path / "empty.db").touch()
    for database in (filled, tmp_path / "empty.db"):
        answer = client(database).get(f"/{page}")
        assert 200 == answer.status_code, answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "<script>" not in answer.text
        assert "\x1b" not in answer.text


def test_rows_in_order_and_downloaded(filled: Path) -> None:
    """The order stands in the address; a download has all rows, and no formula."""
    pages = client(filled)
    down, up = (pages.get(f"/reports/publishers?sort={sign}publisher").text for sign in ("-", ""))
    assert down.index("=B") > down.index("AAAA")
    assert up.index("=B") < up.index("AAAA") or up.index("=B") < up.index("alert(1)")
    assert 3 == len(pages.get("/reports/publishers?format=json").json())
    assert "'=B" in pages.get("/reports/publishers?format=csv").text


def test_a_value_of_ten_thousand_letters(filled: Path) -> None:
    """It is cut on the page, and whole in what is downloaded."""
    pages = client(filled)
    assert "A" * (MOST_LETTERS - 1) + "…<" in pages.get("/reports/publishers").text
    assert "A" * 10_000 in pages.get("/reports/publishers?format=csv").text


@pytest.mark.parametrize(
    ("address", "status", "word"),
    [
        ("/reports/none", 404, "publishers"),
        ("/reports/publishers?days=x", 400, "--days"),
        ("/reports/publishers?sort=x", 400, "column"),
        ("/publishers?days=nan", 400, "days"),
        ("/samples?status=x", 400, "status"),
        ("/samples?hour=x", 400, "hours"),
        ("/bylines/a/b", 404, "no such cleaning"),
        ("/dead-letters/x", 400, "number"),
        ("/dead-letters/5", 503, "no such dead letter"),
        ("/dead-letters/question?action=drop", 400, "retry"),
        ("/dead-letters/question?action=purge", 400, "which"),
        ("/live/rows?table=sqlite_master", 404, "no table"),
    ],
)
def test_addresses_that_are_wrong(address: str, status: int, word: str, filled: Path) -> None:
    """A page says what is wrong."""
    answer = client(filled).get(address)
    assert status == answer.status_code
    assert word in answer.text


def test_no_database(tmp_path: Path) -> None:
    """Each page says so, and makes none; once it is there, it is read."""
    path = tmp_path / "t.db"
    for page in ("/", "/metrics", "/healthz", "/reports/publishers"):
        answer = client(path).get(page)
        assert 503 == answer.status_code
        assert "there is no database" in answer.text
    assert not path.exists()
    path.write_bytes(b"this is no database" * 100)
    assert 503 == client(path).get("/reports/publishers").status_code


def test_who_is_answered(filled: Path) -> None:
    """Another name than this machine's is not, unless with the token; no request changes anything."""
    assert 421 == client(filled, host="evil.example").get("/").status_code
    assert 200 == client(filled, host="127.0.0.1:8350").get("/").status_code
    guarded = client(filled, token="geheim-ü", host="evil.example")
    assert 401 == guarded.get("/").status_code
    assert 401 == guarded.get("/", headers={"Authorization": "Basic !"}).status_code
    assert 200 == guarded.get("/", auth=("", "geheim-ü")).status_code
    assert 405 == client(filled).post("/").status_code


def test_where_it_cannot_listen(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert 1 == main(["--database", str(filled), "serve", "--port", port])
    assert "in use" in capsys.readouterr().err
    assert 1 == main(["--database", str(filled), "serve", "--host", "0.0.0.0"])
    assert "--token" in capsys.readouterr().err


def test_only_a_form_of_these_pages_orders(filled: Path) -> None:
    """One of another site, without the secret of this process, or too long changes nothing."""
    pages = client(filled)
    question = pages.get("/dead-letters/question?action=purge&ids=1").text
    secret = question.partition('name="secret" value="')[2].partition('"')[0]
    form = {"action": "purge", "ids": "1", "secret": secret}
    assert 200 == pages.post("/dead-letters/order", data=form).status_code
    refused = {**form, "secret": "x"}
    assert 403 == pages.post("/dead-letters/order", data=refused).status_code
    for origin in ("http://evil.example", "null"):
        assert 403 == pages.post("/dead-letters/order", data=form, headers={"Origin": origin}).status_code
    assert 413 == pages.post("/dead-letters/order", data={**form, "ids": "1 " * 40_000}).status_code
    assert 421 == client(filled, host="evil.example").post("/dead-letters/order", data=form).status_code
