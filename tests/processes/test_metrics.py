"""`telemetry-writer --metrics`: scraped while it works, by scrapers of every kind."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from http.client import HTTPException
from math import isnan
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

import pytest
from prometheus_client.parser import text_string_to_metric_families

from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
from producers.values import utc_now
from telemetry_bus import TelemetryStore

from ..support.bus import Bus
from ..support.clock import DEADLINE_S, wait_until

#: So many clients are served at once.
PLACES = 16
MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
PROMETHEUS = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: {job}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""

pytestmark = pytest.mark.integration

#: The command `telemetry-report`.
REPORT = "import sys; from producers.reports.command import main; sys.exit(main(sys.argv[1:]))"
#: Jobs of two rows each, and some that fail.
LOAD = """
with TelemetryStore(database) as store:
    for number in range(int(sys.argv[2])):
        pair(store, "load", number)
    for number in range(5):
        event(store, "bad", None)
"""
#: A machine without the library.
WITHOUT = """
import sys
sys.modules["prometheus_client"] = None
from writer_daemon.__main__ import main
sys.exit(main())
"""


def tool(name: str) -> str:
    """The path of one of Prometheus' programs. A machine without it skips, continuous integration must have it."""
    if path := shutil.which(name):
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed")
    pytest.skip(f"{name} is not installed")


def port_of(bus: Bus, writer: subprocess.Popen[str]) -> int:
    """The port that the writer has logged."""
    found = wait_until(lambda: re.search(r"metrics at http://127\.0\.0\.1:(\d+)/", bus.errors(writer)), "it listens")
    return int(found[1])


def scrape(port: int) -> str:
    return fetch(f"http://127.0.0.1:{port}/metrics")


def fetch(url: str) -> str:
    with build_opener(ProxyHandler({})).open(url, timeout=DEADLINE_S) as answer:
        return str(answer.read().decode())


def value(text: str, sample: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(text):
        for found in family.samples:
            if (found.name, found.labels) == (f"telemetry_writer_{sample}", labels):
                return found.value
    return None


def test_figures_agree_with_the_database(bus: Bus) -> None:
    """After a load, what is served is what the tables have: jobs, rows, failures, dead letters."""
    port = port_of(bus, bus.answering_writer("--metrics", "127.0.0.1:0"))
    for program in [bus.start(LOAD, "2000") for _ in range(2)]:
        bus.finish(program)
    wait_until(lambda: value(scrape(port), "dead_letters") == 10, "the figures are those of now")
    text = scrape(port)
    assert [(4000,)] == bus.rows("SELECT count(*) FROM events")
    assert 4000 == value(text, "jobs_committed_total")
    assert 8000 == value(text, "rows_committed_total")
    assert 10 == value(text, "job_failures_total", error_type="IntegrityError")
    assert 4010 == value(text, "batch_jobs_sum")
    assert value(text, "batch_jobs_count") == value(text, "commit_seconds_count")
    assert 0 == value(text, "pending_jobs") == value(text, "degraded")
    assert (value(text, "database_bytes") or 0) > 0


def test_promtool_finds_nothing_to_say(bus: Bus) -> None:
    """Names, types and helps are as Prometheus wants them."""
    promtool = tool("promtool")
    port = port_of(bus, bus.answering_writer("--metrics", "127.0.0.1:0"))
    bus.run(LOAD, "10")
    said = subprocess.run(
        [promtool, "check", "metrics"], input=scrape(port), capture_output=True, text=True, check=False
    )
    assert (0, "", "") == (said.returncode, said.stdout, said.stderr)


@pytest.mark.slow
def test_journals_are_counted(bus: Bus) -> None:
    """A producer's journal waits while it lives, and is adopted when it is dead; one of another version is left."""
    bus.folder.prepare()
    (bus.folder.journals / "newer.journal").write_bytes(b"TBUSJRN9" + bytes(10_000))
    port = port_of(bus, bus.answering_writer("--metrics", "127.0.0.1:0"))
    producer = bus.start("""
store = TelemetryStore(database)
event(store, "a", 1)
store.flush()
print("ready", flush=True)
time.sleep(3600)
""")
    assert producer.stdout is not None
    assert "ready\n" == producer.stdout.readline()
    wait_until(lambda: value(scrape(port), "journals", state="waiting") == 1, "the journal is seen")
    producer.kill()
    wait_until(lambda: value(scrape(port), "journals_adopted_total") == 1, "the journal is adopted")
    wait_until(lambda: value(scrape(port), "journals", state="waiting") == 0, "the journal is gone")
    assert 1 == value(scrape(port), "journals_unread") == value(scrape(port), "journals", state="orphaned")


@pytest.mark.slow
def test_clients_that_hang_disturb_nobody(bus: Bus) -> None:
    """More of them than there are places: they take no more threads than that, the writer commits, and at last they
    are all closed, so that a scrape succeeds again."""
    writer = bus.answering_writer("--metrics", "127.0.0.1:0")
    port = port_of(bus, writer)
    before = len(os.listdir(f"/proc/{writer.pid}/task"))
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    try:
        for one in silent:
            one.setblocking(False)
        threads: list[int] = []

        def sent_away() -> bool:
            threads.append(len(os.listdir(f"/proc/{writer.pid}/task")) - before)
            return sum(map(closed, silent)) >= 40 - PLACES

        wait_until(sent_away, "those without a place are sent away")
        assert PLACES >= max(threads)
        bus.run(LOAD, "100")
        assert [(100,)] == bus.rows("SELECT count(*) FROM events")
        wait_until(lambda: all(map(closed, silent)), "those who say nothing are closed")
        assert "telemetry_writer_jobs_committed_total 100.0" in scrape(port)
    finally:
        for one in silent:
            one.close()


@pytest.mark.slow
def test_clients_that_send_a_byte_now_and_then_keep_nobody_out(bus: Bus) -> None:
    """As many as there are places, each within its time to say something: a scrape has its turn all the same."""
    writer = bus.answering_writer("--metrics", "127.0.0.1:0")
    port = port_of(bus, writer)
    ended = threading.Event()

    def drip() -> None:
        while not ended.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as one:
                one.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
                while not ended.wait(0.2):
                    one.sendall(b"x")

    def scraped() -> bool:
        with suppress(OSError, HTTPException):
            return "telemetry_writer_jobs_committed_total" in scrape(port)
        return False

    clients = [threading.Thread(target=drip) for _ in range(PLACES)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            wait_until(scraped, "a scrape among them")
    finally:
        ended.set()
        for client in clients:
            client.join()


def closed(connection: socket.socket) -> bool:
    """Whether the other side has closed it."""
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_the_port_is_taken(bus: Bus, tmp_path: Path) -> None:
    """Exit code 2, and an error that names the option and the address."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        writer = bus.start_writer("--metrics", address)
        assert 2 == writer.wait(DEADLINE_S)
    assert "--metrics: cannot listen" in bus.errors(writer)
    assert address in bus.errors(writer)


def test_the_library_is_missing(bus: Bus) -> None:
    """Exit code 2, and the extra's name; without the option nobody misses it."""
    refused = bus.start_command("-P", "-c", WITHOUT, "--database", bus.database.url, "--metrics", "0")
    assert 2 == refused.wait(DEADLINE_S)
    assert "telemetry-bus[metrics]" in bus.errors(refused)
    bus.answers(bus.start_command("-P", "-c", WITHOUT, "--database", bus.database.url))


def test_whoever_may_read_is_warned_of(bus: Bus) -> None:
    """An address that is not this machine's alone is taken, with a warning."""
    writer = bus.answering_writer("--metrics", "0.0.0.0:0")
    wait_until(lambda: "not for this machine alone" in bus.errors(writer), "the warning")


@pytest.mark.parametrize(
    "words",
    [
        *(("check", "rules", f"{name}.yml") for name in ("alerts", "extractions")),
        *(("test", "rules", f"{name}_test.yml") for name in ("alerts", "extractions")),
    ],
)
def test_alert_rules(words: tuple[str, ...]) -> None:
    """The rules are valid; each one is silent before its cause, and fires after it."""
    said = subprocess.run([tool("promtool"), *words], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert 0 == said.returncode, said.stdout + said.stderr
    assert "SUCCESS" in said.stdout


@pytest.mark.parametrize("name", ["alerts", "extractions"])
def test_every_alert_is_tested(name: str) -> None:
    """No rule stands without a case of its own."""
    alerts = re.findall(r"- alert: (\w+)", (MONITORING / f"{name}.yml").read_text())
    assert alerts
    assert sorted(alerts) == sorted(
        set(re.findall(r'alertname="(\w+)"', (MONITORING / f"{name}_test.yml").read_text()))
    )


@pytest.mark.parametrize(("name", "where"), [("alerts", "operations.md"), ("extractions", "dashboard.md")])
def test_every_alert_has_a_runbook(name: str, where: str) -> None:
    """Under its name, on the operations page or that of the pages."""
    page = (MONITORING.parents[1] / "docs" / where).read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)", (MONITORING / f"{name}.yml").read_text())
    runbooks = re.findall(r"runbook: docs/(\S+)", (MONITORING / f"{name}.yml").read_text())
    assert [f"{where}#{alert.lower()}" for alert in alerts] == runbooks
    assert alerts == re.findall(r"^### (Telemetry\w+)$", page, re.MULTILINE)


def test_dashboard_and_alerts_have_data(bus: Bus, tmp_path: Path) -> None:
    """A Prometheus that scrapes a writer under load has a number for every query of the dashboard, and every time
    series that an alert asks for; each alert says what it means and where to read on."""
    port = port_of(bus, bus.answering_writer("--metrics", "127.0.0.1:0"))
    with prometheus(tmp_path, port) as api:
        wait_until(lambda: numbers(api, "telemetry_writer_jobs_committed_total"), "the first scrape")
        bus.run(LOAD, "500")
        panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
        for query in [target["expr"] for panel in panels for target in panel["targets"]]:
            wait_until(partial(numbers, api, query.replace("$__rate_interval", "1m")), f"data for {query}")
        rules = rules_of(api)
        assert 11 == len(rules)
        for rule in rules:
            assert {"summary", "description", "runbook"} == set(rule["annotations"])
            assert f"docs/operations.md#{rule['name'].lower()}" == rule["annotations"]["runbook"]
            for name in re.findall(r"(?:telemetry_writer|process)_\w+", rule["query"]):
                assert numbers(api, name), name


def test_the_extractions_have_data(database: Path, tmp_path: Path) -> None:
    """A Prometheus that scrapes the pages has a number for every query of their board, and knows the rules."""
    command = ["-P", "-c", REPORT, "--database", str(database), "serve", "--port", "0"]
    record_extractions(database)
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as pages:
        assert pages.stdout is not None
        try:
            port = int(pages.stdout.readline().strip().rstrip("/").rpartition(":")[2])
            with prometheus(tmp_path, port, "extractions.yml", "telemetry-pages") as api:
                panels = json.loads((MONITORING / "extractions.json").read_text())["panels"]
                for query in [target["expr"] for panel in panels for target in panel["targets"]]:
                    wait_until(partial(numbers, api, query), f"data for {query}")
                # before the first scrape nothing is known
                wait_until(lambda: {"inactive"} == {rule["state"] for rule in rules_of(api)}, "no alert")
        finally:
            pages.terminate()


def rules_of(api: str) -> Any:
    (group,) = ask(api, "rules")["groups"]
    return group["rules"]


def record_extractions(database: Path) -> None:
    """One in each of these hours, so that the last whole hour has one whenever it is asked for."""
    with TelemetryStore(database, mode="sync") as store, pytest.MonkeyPatch.context() as patch:
        telemetry = ComprehensiveExtractionTelemetry(store=store)
        for hours in range(3):
            moment = utc_now() - timedelta(hours=hours)
            patch.setattr("producers.extraction.rows.utc_now", lambda moment=moment: moment)
            metrics = ExtractionMetrics("o", "a", "https://h/x", "P")
            metrics.set_http_metrics(404, 1, 1)
            metrics.total_duration_ms = 1000.0
            telemetry.record_extraction(metrics)


@contextmanager
def prometheus(folder: Path, port: int, rules: str = "alerts.yml", job: str = "telemetry-writer") -> Iterator[str]:
    """A Prometheus of the test's own that scrapes this port: the address of its API. It is seen to end."""
    config = folder / "prometheus.yml"
    config.write_text(PROMETHEUS.format(rules=MONITORING / rules, port=port, job=job))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            with suppress(URLError):
                return bool(fetch(f"http://{address}/-/ready"))
            return False

        wait_until(ready, "Prometheus is ready")
        yield f"http://{address}/api/v1"
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE_S)
        finally:
            process.kill()
            process.wait()


def ask(api: str, path: str) -> Any:
    return json.loads(fetch(f"{api}/{path}"))["data"]


def numbers(api: str, query: str) -> list[float]:
    """What an instant query finds, without what is not a number."""
    found = [float(each["value"][1]) for each in ask(api, f"query?query={quote(query)}")["result"]]
    return [number for number in found if not isnan(number)]
