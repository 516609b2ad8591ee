"""The writer as a service on a machine, producers of another user, and what the tables have afterwards."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass

from ...support.clock import DEADLINE_S, wait_until
from .machine import ROOT, Machine

#: Beside what is installed: this tree's code, which the service's own /tmp may hide, and times to wait for in a test.
FOR_TESTS = f"""
[Service]
Environment="PYTHONPATH={ROOT}"
BindReadOnlyPaths="{ROOT}"
RestartSec=300ms
"""

#: Submits a job, waits for a moment, and so on until its input ends; then tells what it has seen, see `Load`.
PRODUCE = """
import json, sys, threading, time
from telemetry_bus import TelemetryStore
name, pause, end = sys.argv[1], float(sys.argv[2]), threading.Event()
number, longest, fullest = 0, 0.0, 0
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
with TelemetryStore(timeout=60) as store:
    while not end.wait(pause) or not number:
        number += 1
        before = time.perf_counter()
        store.execute("INSERT INTO events (producer, number) VALUES (?, ?)", (name, number), ensure=[
            "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, producer TEXT, number INTEGER)"])
        took = time.perf_counter() - before
        longest = max(longest, took)
        if number % 64 == 1 or took > 0.01:
            fullest = max(fullest, store.stats().pending_bytes)
        if number == 1:
            print("begun", flush=True)
    store.flush()
print(json.dumps([number, 1000 * longest, fullest]))
"""

#: See `Service.found`; nothing is wrong with the database, and there are no dead letters.
ORACLE = """
import contextlib, json, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1])) as connection:
    assert ("ok",) == connection.execute("PRAGMA integrity_check").fetchone()
    assert (0,) == connection.execute("SELECT count(*) FROM telemetry_bus_dead_letters").fetchone()
    print(json.dumps(connection.execute("SELECT producer, min(number), max(number), count(*), count(DISTINCT number)"
                                        " FROM events GROUP BY producer").fetchall()))
"""


@dataclass(frozen=True)
class Load:
    """What producers have seen: jobs submitted by each, the longest submit, and the most that one journal had."""

    submitted: dict[str, int]
    longest_ms: float
    fullest_bytes: int


class Service:
    """A writer as a service on a machine, in a folder whose name needs quoting; its producers submit with a pause
    of so many seconds after each job."""

    def __init__(self, machine: Machine, name: str, pause_s: float = 0.0005) -> None:
        self.machine = machine
        self.name = name
        self.unit = f"telemetry-writer@{name}"
        self.path = f"/var/lib/tele metry 5% $HOME/{name}/telemetry.db"
        self.environment = f"/etc/telemetry-bus/{name}.env"
        self._pause_s = pause_s
        #: What producers have in their environment.
        self.settings = {"TELEMETRY_DATABASE_URL": self.path, "TELEMETRY_BUS_SPAWN": "0", "HOME": "/"}
        self.producers: list[subprocess.Popen[str]] = []
        machine.python("-m", "telemetry_bus", "install-service", "--database", self.path, "--name", name)

    def prepare(self, settings: str = FOR_TESTS) -> None:
        """What install-service says to run next, but for the start."""
        drop_in = f"/etc/systemd/system/{self.unit}.service.d/test.conf"
        self.machine.run("sh", "-c", 'printf %s "$1" > "$2"', "sh", settings, drop_in)
        for command in ("systemd-sysusers", "systemd-tmpfiles --create"):
            self.machine.run(*command.split(), f"telemetry-writer-{self.name}.conf")
        self.machine.run("systemctl", "daemon-reload")

    def control(self, verb: str) -> None:
        self.machine.run("systemctl", verb, self.unit)

    def show(self, *names: str) -> list[str]:
        """Properties of the unit, in the order of their names here."""
        lines = self.machine.run("systemctl", "show", self.unit, *(f"--property={name}" for name in names)).splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return [found[name] for name in names]

    @property
    def pid(self) -> int:
        return int(self.show("MainPID")[0])

    def signal(self, name: str) -> None:
        self.machine.run("systemctl", "kill", "--kill-whom=main", f"--signal={name}", self.unit)

    def restarted(self, times: int) -> None:
        wait_until(
            lambda: self.show("NRestarts", "SubState") == [str(times), "running"], f"{self.unit} was started again"
        )

    def journal(self, *options: str) -> str:
        self.machine.run("journalctl", "--sync")
        return self.machine.run("journalctl", "--no-pager", "--output=cat", "--unit", self.unit, *options)

    def produce(self, name: str, user: str) -> subprocess.Popen[str]:
        """A program of another user that produces, once it has begun."""
        process = self.machine.popen(
            sys.executable,
            "-P",
            "-c",
            PRODUCE,
            name,
            str(self._pause_s),
            user=user,
            **self.settings,
        )
        self.producers.append(process)
        return process

    def under_load(self, *names: str) -> None:
        """Producers of another user at work, once each has begun."""
        for process in [self.produce(name, "member") for name in names]:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n", process.communicate()

    def commits(self) -> None:
        """The writer that runs has committed something."""
        wait_until(lambda: re.match("[1-9]", self.show("StatusText")[0]), f"{self.unit} commits")

    def end_load(self) -> Load:
        """The producers end by themselves, when everything is committed."""
        ended = [process.communicate(timeout=DEADLINE_S) for process in self.producers]
        assert [0] * len(ended) == [process.returncode for process in self.producers], ended
        answers = [json.loads(output) for output, _ in ended]
        names = [str(process.args[-2]) for process in self.producers]  # type: ignore[index]  # a list, see `popen`
        self.producers.clear()
        numbers, longest, fullest = zip(*answers, strict=True)
        return Load(dict(zip(names, numbers, strict=True)), max(longest), max(fullest))

    def found(self) -> dict[str, tuple[int, int, int, int]]:
        """Each producer's numbers in the table: the first, the last, how many, and how many different ones."""
        rows = json.loads(self.machine.python("-c", ORACLE, self.path))
        return {name: (first, last, count, different) for name, first, last, count, different in rows}

    def rows(self) -> dict[str, int]:
        """How many rows each producer has, all of them different and without a gap."""
        found = self.found()
        assert {name: (1, last, last, last) for name, (_, last, _, _) in found.items()} == found
        return {name: last for name, (_, last, _, _) in found.items()}

    def close(self) -> None:
        """The writer leaves when it is asked, and nothing of the service is left."""
        for process in self.producers:
            process.communicate(timeout=DEADLINE_S)
        self.control("stop")
        assert self.pid == 0
        self.machine.python("-m", "telemetry_bus", "uninstall-service", "--name", self.name, "--force")
