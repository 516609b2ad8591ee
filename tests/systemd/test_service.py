"""The writer as a service of a real systemd, as `telemetry-bus install-service` sets it up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..endurance.restarts.machine import ROOT
from ..endurance.restarts.service import FOR_TESTS, Service
from ..support.clock import wait_until
from ..support.failing_calls import strace_or_skip

pytestmark = [pytest.mark.root, pytest.mark.integration, pytest.mark.slow]

UNIT = "/etc/systemd/system/telemetry-writer@.service"
FOUR = ("one", "two", "three", "four")

ORPHANED = 12
#: A producer that dies before a writer is there. Two of its jobs fill a message; each keeps the writer busy a while.
ORPHAN = """
import os, sys
from telemetry_bus import TelemetryStore
store = TelemetryStore()
for number in range(1, int(sys.argv[1]) + 1):
    store.execute(
        "INSERT INTO events (producer, number) SELECT ?, max(n) FROM (WITH RECURSIVE up (n) AS"
        " (SELECT ? - 1000000 UNION ALL SELECT n + 1 FROM up LIMIT 1000001) SELECT n FROM up) WHERE length(?) > 0",
        ("dead", number, "x" * 100_000),
        ensure=["CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, producer TEXT, number INTEGER)"])
os._exit(0)
"""

#: Reads the database as a producer does.
COUNT = """
import sys
from telemetry_bus import TelemetryStore
with TelemetryStore(sys.argv[1], spawn=False).connection() as connection:
    print(connection.execute("SELECT count(*) FROM events").fetchone()[0])
"""


def test_start(service: Service) -> None:
    """`systemctl start` returns when the writer answers; its status line says what it does; it is sandboxed and runs
    as the user that was made for it, in a folder that was made for it."""
    service.prepare()
    service.control("start")
    status = json.loads(service.machine.python("-m", "telemetry_bus", "status", "--json", "--database", service.path))
    assert ("running", service.pid) == (status["state"], status["pid"])
    wait_until(lambda: service.show("StatusText") == ["0 jobs committed, 0 pending, running"], "it tells its status")
    assert ["0", "success"] == service.show("NRestarts", "Result")
    folder = service.path.rpartition("/")[0]
    bus = f"{service.path}.bus"
    rights = service.machine.run("stat", "-c", "%U %G %a", folder, bus, f"{bus}/jobs.sock")
    assert ["telemetry telemetry 750", "telemetry telemetry 2770", "telemetry telemetry 660"] == rights.splitlines()


def test_a_member_of_the_group_produces(service: Service) -> None:
    """Another user of the group submits and sees it committed. The database is the service's own; once its rights say
    that the group may read it, a member can."""
    service.prepare()
    service.control("start")
    service.under_load("only")
    submitted = service.end_load().submitted
    assert submitted == service.rows()
    count = ("-c", COUNT, service.path)
    assert "cannot open the database" in service.machine.python(*count, user="member", check=False, HOME="/")
    service.control("stop")
    service.machine.run("chmod", "g+r", service.path)
    service.control("start")
    assert str(submitted["only"]) == service.machine.python(*count, user="member", HOME="/")


def test_a_stranger_is_told(service: Service) -> None:
    """Who is not in the group gets an error that names the folder and the group, and nothing is written."""
    service.prepare()
    service.control("start")
    process = service.produce("stranger", "stranger")
    _, errors = process.communicate()
    service.producers.clear()
    assert 1 == process.returncode
    assert "telemetry_bus.errors." in errors.splitlines()[-1]
    assert f"{service.path}.bus" in errors.splitlines()[-1]
    assert "only members of group telemetry may enter" in errors.splitlines()[-1]
    assert not service.machine.run("sh", "-c", 'ls "$1.bus/journals"', "sh", service.path)


def test_killed_under_load(service: Service) -> None:
    """kill -9 of the writer: systemd starts the next one, and every job is there once."""
    service.prepare()
    service.control("start")
    service.under_load(*FOUR)
    service.commits()
    service.signal("KILL")
    service.restarted(1)
    assert service.end_load().submitted == service.rows()


@pytest.mark.usefixtures("machine")
def test_restarted_under_load(tmp_path: Path) -> None:
    """`scripts/restarts` in short: nothing is lost or doubled, each writer ends as it was asked to, and no producer
    waits for room. Its systemd and its files go with it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "tests.endurance.restarts", "--restarts", "3"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    told = ended.stdout.splitlines()
    assert 3 == sum(line.startswith("restart ") for line in told)
    assert "nobody had to wait for room" in ended.stdout
    assert "lost 0, doubled 0" == told[-1]
    assert [] == list(tmp_path.iterdir())


def test_stopped_under_load(service: Service) -> None:
    """The writer leaves in order; what was submitted meanwhile waits for the next start."""
    service.prepare()
    service.control("start")
    service.under_load(*FOUR)
    service.commits()
    service.control("stop")
    assert ["inactive", "success", "0"] == service.show("ActiveState", "Result", "ExecMainStatus")
    service.control("start")
    assert service.end_load().submitted == service.rows()


def test_a_stuck_writer_is_replaced(service: Service) -> None:
    """One that is stopped starves the watchdog, which kills it; the next one goes on with the same jobs."""
    service.prepare(f"{FOR_TESTS}WatchdogSec=4s\nTimeoutAbortSec=1s\n")
    service.control("start")
    service.under_load("only")
    service.commits()
    service.signal("STOP")
    service.restarted(1)
    assert "Watchdog timeout" in service.journal()
    assert service.end_load().submitted == service.rows()


def test_a_stuck_commit_is_replaced(service: Service) -> None:
    """One whose disk does not answer a commit starves the watchdog too, though nobody has stopped it. The jobs of that
    commit are applied once by the next one."""
    service.prepare(f"{FOR_TESTS}WatchdogSec=4s\nTimeoutAbortSec=1s\n")
    service.control("start")
    service.under_load("only")
    service.commits()
    disk = service.machine.popen(
        strace_or_skip(),
        "-f",
        "-qq",
        "-p",
        str(service.pid),
        "-e",
        "trace=fdatasync",
        "-e",
        f"inject=fdatasync:delay_enter={10**9}",
    )
    look = ("sed", "-n", "s/^TracerPid:\t//p", f"/proc/{service.pid}/status")
    tracer = wait_until(lambda: int(service.machine.run(*look)), "strace is there")
    wait_until(lambda: "Watchdog timeout" in service.journal(), "the watchdog bites")
    service.machine.run("kill", "-KILL", str(tracer))  # no signal ends a process that waits for its disk
    _, traced = disk.communicate()
    assert "fdatasync(" in traced
    service.restarted(1)
    assert service.end_load().submitted == service.rows()


def test_ready_when_the_dead_are_adopted(service: Service) -> None:
    """`systemctl start` returns when everything that a dead producer has left is in the tables, and is given the time
    for that: here, where the writer is stopped meanwhile, more than its unit allows for a start."""
    allowed_s = 10
    service.prepare(f"{FOR_TESTS}TimeoutStartSec={allowed_s}s\n")
    service.control("start")
    service.control("stop")
    service.machine.python("-c", ORPHAN, str(ORPHANED), user="member", **service.settings)
    service.machine.run("sed", "-i", "s/^WRITER_OPTIONS=.*/& --batch-rows 1/", service.environment)
    service.machine.run("systemctl", "start", "--no-block", service.unit)
    wait_until(lambda: "adopting" in service.show("StatusText")[0], "it adopts")
    began_s = int(service.show("ExecMainStartTimestampMonotonic")[0]) / 1e6
    service.signal("STOP")
    wait_until(lambda: time.monotonic() > began_s + allowed_s + 1, "the time that is allowed is over")
    assert ["start"] == service.show("SubState")
    service.signal("CONT")
    service.control("start")
    assert {"dead": ORPHANED} == service.rows()
    assert ["running", "0"] == service.show("SubState", "NRestarts")


def test_an_idle_writer_is_not_taken_for_a_stuck_one(service: Service) -> None:
    """Without work it tells of itself all the same."""
    service.prepare(f"{FOR_TESTS}WatchdogSec=3s\n")
    service.control("start")
    uptime = ("-m", "telemetry_bus", "status", "--json", "--database", service.path)
    wait_until(lambda: json.loads(service.machine.python(*uptime))["uptime_s"] > 7, "two intervals are over")
    assert ["0"] == service.show("NRestarts")


def test_a_database_that_cannot_be_opened(service: Service) -> None:
    """Journal and status say why; it is tried again after a pause, and works when the database does. Producers keep
    their jobs meanwhile."""
    service.prepare(f"{FOR_TESTS}RestartSec=1h\n")
    service.control("start")
    service.under_load("only")
    service.commits()
    service.control("stop")
    service.machine.run("mv", service.path, f"{service.path}.aside")
    service.machine.run("sh", "-c", 'echo "This is not a database, but a text." > "$1"', "sh", service.path)
    start = service.machine.run("systemctl", "start", service.unit, check=False)
    assert "failed" in start
    assert ["auto-restart", "4"] == service.show("SubState", "ExecMainStatus")
    assert "not a database" in service.show("StatusText")[0]
    (line,) = [line for line in service.journal("--priority=err").splitlines() if "telemetry_bus" in line]
    assert line.startswith("ERROR telemetry_bus.writer: ")
    assert "not a database" in line
    service.machine.run("mv", f"{service.path}.aside", service.path)
    service.control("restart")
    assert ["running"] == service.show("SubState")
    assert service.end_load().submitted == service.rows()


def test_settings_that_make_no_sense(service: Service) -> None:
    """They must be changed first: it is not started again, and the journal names the option."""
    service.prepare()
    service.machine.run("sed", "-i", "s/^WRITER_OPTIONS=.*/&-is-missing/", service.environment)
    service.machine.run("systemctl", "start", service.unit, check=False)
    assert ["failed", "2", "0"] == service.show("ActiveState", "ExecMainStatus", "NRestarts")
    assert "there is no such group [telemetry-is-missing]" in service.journal("--priority=err")


def test_the_environment_file_is_read_at_a_restart(service: Service) -> None:
    """Options that were changed there hold for the next start; producers at work do not notice."""
    service.prepare()
    service.control("start")
    service.under_load("only")
    service.commits()
    assert "durability full" in service.journal()
    service.machine.run("sed", "-i", "s/^WRITER_OPTIONS=.*/& --durability normal/", service.environment)
    service.control("restart")
    assert "durability normal" in service.journal()
    assert service.end_load().submitted == service.rows()


def test_metrics(service: Service) -> None:
    """With the settings that the unit's comment names the service listens, on the loopback address."""
    (comment,) = re.findall(r"# a drop-in says: (.*)\.$", service.machine.run("cat", UNIT), re.MULTILINE)
    service.prepare(FOR_TESTS + "\n".join(re.split(r", (?=[A-Z]\w+=)", comment)))
    service.machine.run("sed", "-i", "s/^WRITER_OPTIONS=.*/& --metrics 0/", service.environment)
    service.control("start")
    service.under_load("only")
    jobs = sum(service.end_load().submitted.values())
    (url,) = re.findall(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", service.journal())
    look = ("-c", "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())", url)
    committed = f"telemetry_writer_jobs_committed_total {float(jobs)}"
    wait_until(lambda: committed in service.machine.python(*look, user="stranger"), "all of them are in the figures")


def test_exposure(service: Service) -> None:
    """systemd finds at most 1.0 of 10 to object to, and nothing in the unit that it does not understand."""
    service.prepare()
    unit = f"{service.unit}.service"
    service.machine.run("systemd-analyze", "security", "--no-pager", "--threshold=10", unit)
    assert "" == service.machine.run("systemd-analyze", "verify", "--recursive-errors=no", unit, check=False)
