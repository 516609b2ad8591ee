"""A machine that has just booted, with a real systemd, on which a test installs the writer as a service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: A guard against hanging, not a measure of speed.
DEADLINE_S = 60.0
POLL_S = 0.02

#: Beside what is installed: this tree's code, which the service's own /tmp may hide, and times to wait for in a test.
FOR_TESTS = f"""
[Service]
Environment="PYTHONPATH={ROOT}"
BindReadOnlyPaths="{ROOT}"
RestartSec=300ms
"""

#: Submits one job a moment until its input ends. Its answer: how many jobs, and the longest submit in milliseconds.
PRODUCE = """
import sys, threading, time
from telemetry_bus import TelemetryStore
name, end, longest, number = sys.argv[1], threading.Event(), 0.0, 0
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
with TelemetryStore(timeout=60) as store:
    while not end.wait(0.0005) or not number:
        number += 1
        before = time.perf_counter()
        store.execute("INSERT INTO events (producer, number) VALUES (?, ?)", (name, number), ensure=[
            "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, producer TEXT, number INTEGER)"])
        longest = max(longest, time.perf_counter() - before)
        if number == 1:
            print("begun", flush=True)
    store.flush()
print(number, round(1000 * longest, 3))
"""

#: Each producer's numbers, as its first, its last, how many, and how many different ones.
ORACLE = """
import contextlib, json, os, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1])) as connection:
    assert ("ok",) == connection.execute("PRAGMA integrity_check").fetchone()
    assert (0,) == connection.execute("SELECT count(*) FROM telemetry_bus_dead_letters").fetchone()
    print(json.dumps(connection.execute("SELECT producer, min(number), max(number), count(*), count(DISTINCT number)"
                                        " FROM events GROUP BY producer").fetchall()))
"""


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`; fails when there is none in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(POLL_S)
    return value


class Machine:
    """The booted systemd."""

    def __init__(self, scratch: Path) -> None:
        self._log = scratch.with_name(f"{scratch.name}.log")
        with self._log.open("w") as log:
            self._outer = subprocess.Popen(
                [str(Path(__file__).with_name("boot")), str(scratch), str(ROOT)], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )
        self._inner = 0

    def boots(self) -> bool:
        """Wait until it has booted; False when it cannot on this machine."""
        def is_up() -> bool:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            if self._outer.poll() is not None:
                return True
            if not children or Path(f"/proc/{children[0]}/comm").read_text() != "systemd\n":
                return False
            self._inner = int(children[0])
            return self.run("systemctl", "is-system-running", check=False) in ("running", "degraded")

        wait_until(is_up, "systemd is up")
        return self._outer.poll() is None

    def why_not(self) -> str:
        return self._log.read_text()

    def popen(self, *words: str, user: str = "root", **environment: str) -> subprocess.Popen[str]:
        """Start a program on it, as this user."""
        enter = ["nsenter", "--target", str(self._inner), "--all", "--root", "--wd"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user != "root" else []
        return subprocess.Popen(
            [*enter, *become, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **environment},
        )

    def run(self, *words: str, check: bool = True, user: str = "root", **environment: str) -> str:
        """Run a program on it to its end; its output, or with a failure that is allowed all that it said."""
        process = self.popen(*words, user=user, **environment)
        output, errors = process.communicate(timeout=DEADLINE_S)
        assert not check or process.returncode == 0, (words, output, errors)
        return output.strip() if check else (output + errors).strip()

    def python(self, *words: str, **options: Any) -> str:
        return self.run(sys.executable, "-P", *words, **options)

    def open_to_all(self, path: Path) -> None:
        """Everybody may pass to `path`, on this machine: its users must reach Python."""
        for folder in path.parents:
            self.run("chmod", "o+x", str(folder), check=folder.is_relative_to("/root"))

    def close(self) -> None:
        self._outer.kill()  # and with it everything inside
        self._outer.wait()


class Service:
    """A writer as a service on a machine, in a folder whose name needs quoting."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name
        self.unit = f"telemetry-writer@{name}"
        self.path = f"/var/lib/tele metry 5% $HOME/{name}/telemetry.db"
        self.environment = f"/etc/telemetry-bus/{name}.env"
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
            sys.executable, "-P", "-c", PRODUCE, name, user=user, TELEMETRY_DATABASE_URL=self.path,
            TELEMETRY_BUS_SPAWN="0", HOME="/",
        )
        self.producers.append(process)
        return process

    def under_load(self, *names: str) -> None:
        """Producers of another user at work, once each has begun."""
        for process in [self.produce(name, "member") for name in names]:
            assert process.stdout is not None
            assert "begun\n" == process.stdout.readline(), process.communicate()

    def end_load(self) -> tuple[dict[str, int], float]:
        """What each has submitted when it ended by itself, all committed; and the longest submit in milliseconds."""
        ended = [process.communicate(timeout=DEADLINE_S) for process in self.producers]
        assert [0] * len(ended) == [process.returncode for process in self.producers], ended
        answers = [output.split() for output, _ in ended]
        names = [process.args[-1] for process in self.producers]  # type: ignore[index]  # a list, see `popen`
        self.producers.clear()
        return (
            {str(name): int(number) for name, (number, _) in zip(names, answers, strict=True)},
            max(float(longest) for _, longest in answers),
        )

    def rows(self) -> dict[str, int]:
        """How many rows each producer has, all of them different and without a gap."""
        found = json.loads(self.machine.python("-c", ORACLE, self.path))
        assert [] == [row for row in found if row[1] != 1 or len({row[2], row[3], row[4]}) != 1]
        return {name: last for name, _, last, _, _ in found}

    def close(self) -> None:
        """The writer leaves when it is asked, and nothing of the service is left."""
        for process in self.producers:
            process.communicate(timeout=DEADLINE_S)
        self.control("stop")
        assert 0 == self.pid
        self.machine.python("-m", "telemetry_bus", "uninstall-service", "--name", self.name, "--force")
