"""The wrapped extractor: what is said of each page, whatever the network, the server and the page are like."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import requests

from producers.content_extractor import TelemetryContentExtractor
from producers.content_extractor.quality import judge
from producers.extraction_outcomes import ExtractionOutcome, ExtractionResult

GOOD = {
    "title": "Council votes on a new bridge",
    "content": "The council voted on Tuesday. " * 10,
    "author": "Ann Lee, Bo Ray",
    "publish_date": "2026-01-02T03:04:05Z",
}


class Extractor:
    """Gives what it was made with; an exception is raised."""

    def __init__(self, article: Any) -> None:
        self.article = article
        self.seen: list[tuple[str, str]] = []

    def extract_content(self, url: str, html: str) -> Any:
        self.seen.append((url, html))
        if isinstance(self.article, Exception):
            raise self.article
        return self.article


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers `/STATUS` with that status and the server's page; `/slow` not at all."""

    server: Server

    def do_GET(self) -> None:
        self.server.agents.append(self.headers["User-Agent"])
        if self.path == "/slow":
            self.server.released.wait()
            return
        body = self.server.page.encode()
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(http.server.ThreadingHTTPServer):
    """A server with one page."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.page = "<p>a page</p>"
        self.agents: list[str] = []
        self.released = threading.Event()

    def url(self, path: object) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    """It runs as long as the test."""
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.released.set()
        made.shutdown()
        thread.join()


def fetched(server: Server, path: object, article: Any = GOOD) -> ExtractionResult:
    extractor = TelemetryContentExtractor(extractor=Extractor(article))
    with extractor.session:
        return extractor.extract_content_with_telemetry(server.url(path), 7, "op")


def of_html(article: Any) -> ExtractionResult:
    return TelemetryContentExtractor(extractor=Extractor(article)).extract_content_with_telemetry("u", 7, "op", "<p>")


def test_a_page_that_is_given() -> None:
    """Without a request there is no status; the extractor sees address and page, the result describes the article."""
    extractor = Extractor(GOOD)
    result = TelemetryContentExtractor(extractor=extractor).extract_content_with_telemetry("u", 7, "op", "<p>")
    assert [("u", "<p>")] == extractor.seen
    assert ("u", 7, "op", ExtractionOutcome.CONTENT_EXTRACTED) == (
        result.url,
        result.article_id,
        result.operation_id,
        result.outcome,
    )
    assert (None, None) == (result.http_status_code, result.response_size_bytes)
    assert (True, True, True, True, 2) == (
        result.has_title,
        result.has_content,
        result.has_author,
        result.has_publish_date,
        result.author_count,
    )
    assert (29, 299, 1.0, GOOD) == (
        result.title_length,
        result.content_length,
        result.overall_quality_score,
        result.extracted_content,
    )
    assert result.start_time <= result.end_time
    assert isinstance(result.extraction_time_ms, int)


@pytest.mark.parametrize(
    ("expected", "article"),
    [
        ("CONTENT_EXTRACTED", {"title": "t", "content": "c"}),
        ("PARTIAL_CONTENT", {"title": "t"}),
        ("PARTIAL_CONTENT", {"content": "c", "title": " "}),
        ("NO_CONTENT_FOUND", {"title": None, "author": "x"}),
        ("NO_CONTENT_FOUND", {}),
        ("NO_CONTENT_FOUND", None),
        ("CONTENT_EXTRACTED", {"title": 5, "content": ["a", "b"]}),
    ],
)
def test_outcome_by_what_was_found(expected: str, article: Any) -> None:
    """Title and content, one of them, or neither; a value that is not text is no error."""
    assert ExtractionOutcome[expected] == of_html(article).outcome


def test_nothing_found_says_so() -> None:
    """A falsy article has a message, and nothing was looked at."""
    result = of_html(None)
    assert ("nothing could be extracted", None, 1.0) == (
        result.error_message,
        result.title_quality_issues,
        result.overall_quality_score,
    )


def test_an_extractor_that_raises() -> None:
    """Its exception is a parsing error, with message and class."""
    result = of_html(LookupError("no body"))
    assert (ExtractionOutcome.PARSING_ERROR, "no body", "LookupError") == (
        result.outcome,
        result.error_message,
        result.error_type,
    )


def test_no_extractor() -> None:
    """It may be given later; until then the result says that it is missing."""
    wrapped = TelemetryContentExtractor()
    assert wrapped.extract_content_with_telemetry("u", 7, "op", "<p>").error_message == "no extractor was given"
    wrapped.extractor = Extractor(GOOD)
    assert wrapped.extract_content_with_telemetry("u", 7, "op", "<p>").is_content_success


def test_a_page_that_is_fetched(server: Server) -> None:
    """Status and size are recorded, and the agent is the one that was asked for."""
    result = fetched(server, 200)
    assert (ExtractionOutcome.CONTENT_EXTRACTED, 200, 13) == (
        result.outcome,
        result.http_status_code,
        result.response_size_bytes,
    )
    named = TelemetryContentExtractor(user_agent="robot/1", extractor=Extractor(GOOD))
    with named.session:
        named.extract_content_with_telemetry(server.url(200), 7, "op")
    assert ["TelemetryContentExtractor/1.0", "robot/1"] == server.agents


@pytest.mark.parametrize(
    ("expected", "status", "page"),
    [
        ("RATE_LIMITED", 429, "slow down"),
        ("HTTP_ERROR", 404, "gone"),
        ("HTTP_ERROR", 403, "no"),
        ("HTTP_ERROR", 500, "oops"),
        ("HTTP_ERROR", 503, "oops"),
        ("NO_CONTENT_FOUND", 200, " \n"),
        ("PAYWALL_DETECTED", 200, "Subscribe to continue"),
        ("CLOUDFLARE_BLOCKED", 200, "Cloudflare Ray ID: 7"),
        ("CLOUDFLARE_BLOCKED", 404, "Checking your browser ... cloudflare"),
        ("CAPTCHA_REQUIRED", 429, "a CAPTCHA"),
        ("BOT_PROTECTION", 403, "Access Denied"),
        ("BOT_PROTECTION", 200, "under attack mode, paywall"),
    ],
)
def test_pages_that_are_no_articles(server: Server, expected: str, status: int, page: str) -> None:
    """The first rule that fits decides: protection before status, status before what the page says. Status and size
    are recorded all the same, and the extractor is not asked."""
    server.page = page
    result = fetched(server, status, AssertionError("was asked"))
    assert (ExtractionOutcome[expected], status, len(page)) == (
        result.outcome,
        result.http_status_code,
        result.response_size_bytes,
    )
    assert (result.error_message or "").startswith(expected)
    assert "FetchFailed" == result.error_type


def test_a_server_that_does_not_answer(server: Server) -> None:
    """A timeout is one."""
    extractor = TelemetryContentExtractor(timeout=0.05, extractor=Extractor(GOOD))
    with extractor.session:
        result = extractor.extract_content_with_telemetry(server.url("slow"), 7, "op")
    assert (ExtractionOutcome.TIMEOUT, "ReadTimeout") == (result.outcome, result.error_type)


def test_nobody_listens() -> None:
    """A refused connection is a connection error."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        extractor = TelemetryContentExtractor(extractor=Extractor(GOOD))
        with extractor.session:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
            result = extractor.extract_content_with_telemetry(url, 7, "op")
    assert (ExtractionOutcome.CONNECTION_ERROR, None) == (result.outcome, result.http_status_code)


class FailingSession:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def get(self, url: str, timeout: float) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        ("SSL_ERROR", requests.exceptions.SSLError("certificate")),
        ("TIMEOUT", requests.exceptions.ConnectTimeout("t")),
        ("CONNECTION_ERROR", requests.exceptions.ConnectionError("dns")),
        ("DNS_ERROR", requests.exceptions.RequestException("the DNS")),
        ("HTTP_ERROR", requests.exceptions.InvalidURL("u")),
        ("CONNECTION_ERROR", RuntimeError("other")),
    ],
)
def test_requests_that_fail(expected: str, error: Exception) -> None:
    """Each kind of exception has its outcome; a more special class goes before the general one."""
    extractor = TelemetryContentExtractor(extractor=Extractor(GOOD))
    session: Any = FailingSession(error)
    extractor.session = session
    result = extractor.extract_content_with_telemetry("http://x", 7, "op")
    assert (ExtractionOutcome[expected], type(error).__name__) == (result.outcome, result.error_type)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who fetches without it is told which extra to install; a given page needs none."""
    monkeypatch.setitem(__import__("sys").modules, "requests", None)
    extractor = TelemetryContentExtractor(extractor=Extractor(GOOD))
    assert extractor.extract_content_with_telemetry("u", 7, "op", "<p>").is_success
    with pytest.raises(ImportError, match=r"telemetry-bus\[http\]"):
        extractor.extract_content_with_telemetry("u", 7, "op")


LONG = "word " * 60


@pytest.mark.parametrize(
    ("expected", "title"),
    [
        (["missing"], None),
        (["missing"], "  "),
        (["too_short"], "nine char"),
        ([], "ten charac"),
        ([], "x" * 200),
        (["too_long"], "x" * 201),
        (["contains_html"], "a <b>bold</b> title"),
        ([], "one < two is so true"),
        ([], "nothing <> in between"),
        (["contains_js"], "function () in a title"),
        (["too_short", "placeholder_text"], "Untitled"),
    ],
)
def test_titles(expected: list[str], title: object) -> None:
    """The issues of a title, in the order of the rules."""
    assert expected == judge({"title": title}).title_issues


@pytest.mark.parametrize(
    ("expected", "content"),
    [
        (["missing"], ""),
        (["too_short"], "x" * 99),
        ([], "x" * 100),
        (["contains_html"], LONG + "<div>"),
        (["too_short", "navigation_text"], "home about contact menu"),
        (["too_short"], "home about contact"),
        ([], LONG + "home about contact menu"),
        (["error_messages"], LONG + "terror"),
        (["too_short", "contains_html", "contains_js", "error_messages"], "<b> window.location 404"),
    ],
)
def test_contents(expected: list[str], content: str) -> None:
    """The issues of a text: navigation only when it is short, error messages anywhere in it."""
    assert expected == judge({"content": content}).content_issues


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (True, "function (x)"),
        (True, "DOCUMENT.body"),
        (True, "window.x"),
        (False, "a window. Then"),
        (False, "let us go"),
        (True, "let us go => {"),
        (True, "var a; const b"),
        (True, "fetch.then(x).catch(y)"),
        (False, "undefined"),
        (True, "undefined prototype"),
        (False, "console. a"),
        (True, "console.log JSON.parse"),
        (True, "addEventListener( $("),
        (True, "getElementById( $("),
    ],
)
def test_scripts(expected: bool, text: str) -> None:
    """One strong sign is enough, or two weak ones, or two words that only scripts have."""
    assert expected == ("contains_js" in judge({"title": f"{text}, a title"}).title_issues)


@pytest.mark.parametrize(
    ("expected", "count", "author"),
    [
        (["missing"], None, None),
        (["too_short"], 1, "A"),
        (["too_long"], 1, "x" * 101),
        ([], 2, "Ann Lee, Bo"),
        (["contains_html"], 1, "<i>Ann</i>"),
        (["placeholder_text"], 1, "STAFF"),
        ([], 2, ["Ann", None, "Bo"]),
        ([], None, ", ,"),
    ],
)
def test_authors(expected: list[str], count: int | None, author: object) -> None:
    """The issues of a byline, and how many names it has; a list of names is as good."""
    quality = judge({"author": author})
    assert (expected, count) == (quality.author_issues, quality.author_count)


@pytest.mark.parametrize(
    ("expected", "published"),
    [
        (["missing"], ""),
        (["invalid_format"], "last week"),
        (["invalid_format"], 20260102),
        ([], "2026-01-02"),
        ([], " 2026-01-02T03:04:05 "),
        ([], "2026-01-02T03:04:05+00:00"),
        ([], "2026-01-02T03:04:05Z"),
        ([], "2026-01-02T03:04:05-06:00"),
        ([], "12/31/2099"),
        ([], "31/12/2099"),
        ([], "December 31, 2099"),
        (["future_date"], "2099-12-31"),
        ([], date(2026, 1, 2)),
    ],
)
def test_dates(expected: list[str], published: object) -> None:
    """Any offset and none are understood, and compared as the moments they are; forms that mean another day elsewhere
    are taken as they are."""
    assert expected == judge({"publish_date": published}).date_issues
    assert expected == judge({"published_date": published, "publish_date": None}).date_issues


@pytest.mark.parametrize(
    ("expected", "age"),
    [
        (["future_date"], timedelta(hours=-1)),
        ([], timedelta(hours=1)),
        ([], timedelta(days=3649)),
        (["suspiciously_old"], timedelta(days=3651)),
    ],
)
def test_ages(expected: list[str], age: timedelta) -> None:
    """A moment is not in the future, nor ten years ago; one without an offset is in UTC."""
    moment = datetime.now(UTC) - age
    naive = moment.replace(tzinfo=None)
    for published in (moment, naive, moment.isoformat(), naive.isoformat()):
        assert expected == judge({"publish_date": published}).date_issues


def test_the_score() -> None:
    """A tenth less for each issue, and never below zero."""
    assert 1.0 == judge(GOOD).score
    assert 0.6 == judge({}).score
    assert 0.7 == judge({**GOOD, "title": "<b>x</b>", "author": ""}).score


def test_a_result_can_be_recorded(store: Any) -> None:
    """What it gives is what the telemetry of outcomes takes."""
    from producers.extraction_outcomes import ExtractionTelemetry

    telemetry = ExtractionTelemetry(store=store)
    telemetry.record_extraction_outcome("op", 7, "u", of_html(GOOD))
    telemetry.flush()
    assert ["content_extracted"] == [each["outcome"] for each in telemetry.get_extraction_stats()]
