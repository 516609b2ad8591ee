"""The pytest plugin in runs of pytest as a user starts them: fixtures, modes, what a failing job does, what is left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.processes import writers_below

ROOT = Path(__file__).parents[2]
PLUGIN = "telemetry_bus.pytest_plugin"

pytestmark = pytest.mark.integration

in_each_mode = pytest.mark.parametrize("mode", ["sync", "thread", "daemon"])
in_journaled_modes = pytest.mark.parametrize("mode", ["thread", "daemon"])

HEAD = """
import os, subprocess, sys
import pytest
from telemetry_bus import JobFailed, TelemetryStore

DDL = "CREATE TABLE IF NOT EXISTS t (a INTEGER CHECK (a < 9))"
INSERT = "INSERT INTO t (a) VALUES (?)"
"""

WORKS = """
def test_works(telemetry_store, tmp_path, request):
    assert telemetry_store.mode == request.config.getini("expected")
    telemetry_store.execute(INSERT, (1,), ensure=[DDL])
    telemetry_store.flush()
    with telemetry_store.connection() as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]
    assert list(tmp_path.iterdir()) == []

def test_a_fresh_one(telemetry_store):
    with telemetry_store.connection() as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 't'").fetchall() == []
"""

REFUSED = """
def test_refused(telemetry_store):
    telemetry_store.execute(INSERT, (10,), ensure=[DDL])
"""


class Run:
    """A folder with tests, and a run of pytest in it that loads the plugin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {"expected": "sync"}
        self.environment = {"PYTHONPATH": str(ROOT)}
        self.program = ["-m", "pytest"]
        self.loading = ["-p", PLUGIN]
        self.code = 0
        self.output = ""

    def __call__(self, tests: str, *options: str) -> dict[str, int]:
        """How many tests came to which end. No warning is allowed in it."""
        (self.folder / "conftest.py").write_text('def pytest_addoption(parser): parser.addini("expected", "mode")\n')
        (self.folder / "test_it.py").write_text(HEAD + tests)
        settings = "".join(f"{name} = {value}\n" for name, value in self.settings.items())
        (self.folder / "pytest.ini").write_text(f"[pytest]\n{settings}")
        ours = ("PYTEST_", "TELEMETRY_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        ended = subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                *self.program,
                *self.loading,
                "-W",
                "error",
                "--strict-markers",
                "--strict-config",
                "--basetemp",
                str(self.folder / "made"),
                *options,
            ],
            cwd=self.folder,
            env={**inherited, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        self.code, self.output = ended.returncode, ended.stdout + ended.stderr
        summary = self.output.strip().rpartition("\n")[2]
        return {end: int(count) for count, end in re.findall(r"(\d+) (passed|failed|errors?|warnings?)", summary)}

    def writers(self) -> list[int]:
        """The processes that are left of databases below the folder."""
        return writers_below(self.folder)


@pytest.fixture
def run(tmp_path: Path, no_writer_left: None) -> Run:
    (folder := tmp_path / "suite").mkdir()
    return Run(folder)


@pytest.mark.slow
@in_each_mode
def test_store(mode: str, run: Run) -> None:
    """A test has a store with a database of its own, in the mode of the option; no writer and no journal is left."""
    run.settings["expected"] = mode
    run.environment["TELEMETRY_BUS_IDLE_TIMEOUT"] = "0"  # a writer would stay for ever
    assert {"passed": 2} == run(WORKS, "--telemetry-mode", mode), run.output
    assert [] == run.writers()
    assert [] == list(run.folder.rglob("*.journal"))
    assert 2 == len(list(run.folder.rglob("telemetry.db")))


@pytest.mark.slow
def test_sync_by_default(run: Run) -> None:
    """Without an option the mode is `sync`."""
    assert {"passed": 2} == run(WORKS), run.output


@pytest.mark.slow
def test_the_ini_file_chooses(run: Run) -> None:
    """The ini key is for every run of a suite, the option for one."""
    run.settings["telemetry_mode"] = run.settings["expected"] = "thread"
    assert {"passed": 2} == run(WORKS), run.output
    run.settings["expected"] = "sync"
    assert {"passed": 2} == run(WORKS, "--telemetry-mode", "sync"), run.output


@pytest.mark.slow
def test_modes_that_are_none(run: Run) -> None:
    """A mode that is none is a usage error that names those that are."""
    run("", "--telemetry-mode", "fast")
    assert pytest.ExitCode.USAGE_ERROR == run.code
    assert "daemon" in run.output
    run.settings["telemetry_mode"] = "fast"
    run("")
    assert pytest.ExitCode.USAGE_ERROR == run.code
    assert "telemetry_mode: 'fast' is not one of sync, thread, daemon" in run.output


@pytest.mark.slow
@in_each_mode
def test_settings_of_the_user(mode: str, run: Run, tmp_path: Path) -> None:
    """What a developer has set for the bus does not steer the fixture, and is there again after the test."""
    run.settings["expected"] = mode
    run.environment |= {
        "TELEMETRY_BUS_MODE": "nonsense",
        "TELEMETRY_DATABASE_URL": f"sqlite:///{tmp_path}/real.db",
        "TELEMETRY_BUS_DIR": str(tmp_path / "elsewhere"),
        "TELEMETRY_DEBUG": "nonsense",
        "TELEMETRY_BUS_SPAWN": "0",
        "TELEMETRY_BUS_IDLE_TIMEOUT": "nonsense",
    }
    afterwards = "def test_afterwards():\n    assert os.environ['TELEMETRY_BUS_MODE'] == 'nonsense'\n"
    assert {"passed": 3} == run(WORKS + afterwards, "--telemetry-mode", mode), run.output
    assert not (tmp_path / "real.db").exists()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_a_refused_job_in_sync_mode(run: Run) -> None:
    """The test fails where it submits."""
    assert {"failed": 1} == run(REFUSED), run.output
    assert "JobFailed" in run.output


@pytest.mark.slow
@in_journaled_modes
def test_a_refused_job(mode: str, run: Run) -> None:
    """The end of the test is an error that shows the database's, and the statement."""
    assert {"passed": 1, "error": 1} == run(REFUSED, "--telemetry-mode", mode), run.output
    assert "IntegrityError: CHECK constraint failed: a < 9 [INSERT INTO t (a) VALUES (?)]" in run.output
    assert pytest.ExitCode.TESTS_FAILED == run.code
    assert [] == run.writers()


@pytest.mark.slow
@in_journaled_modes
def test_a_refused_job_that_is_expected(mode: str, run: Run) -> None:
    """With the mark nothing is said of it: the test looks for itself."""
    tests = f"""
@pytest.mark.telemetry_dead_letters{REFUSED}
    telemetry_store.flush()
    with telemetry_store.connection() as connection:
        assert connection.execute("SELECT error_type FROM telemetry_bus_dead_letters").fetchall() == [
            ("IntegrityError",)
        ]
"""
    assert {"passed": 1} == run(tests, "--telemetry-mode", mode), run.output


@pytest.mark.slow
@in_journaled_modes
def test_a_store_that_the_test_closes(mode: str, run: Run) -> None:
    """What waits in a journal then is written all the same before the test ends, and judged."""
    tests = REFUSED + "    telemetry_store.shutdown()\n"
    assert {"passed": 1, "error": 1} == run(tests, "--telemetry-mode", mode), run.output
    assert "CHECK constraint failed" in run.output
    assert [] == run.writers()


@pytest.mark.slow
def test_another_process(run: Run) -> None:
    """So are the jobs of a process that the test has started."""
    tests = """
def test_other(telemetry_store):
    program = "import sys; from telemetry_bus import TelemetryStore; s = TelemetryStore(sys.argv[1], mode='daemon');"
    program += f"s.execute({INSERT!r}, (10,), ensure=[{DDL!r}])"
    subprocess.run([sys.executable, "-c", program, telemetry_store.database_url], check=True)
"""
    assert {"passed": 1, "error": 1} == run(tests, "--telemetry-mode", "daemon"), run.output
    assert [] == run.writers()


@pytest.mark.slow
def test_a_test_that_fails(run: Run) -> None:
    """It fails for its own reason, and leaves nothing behind."""
    tests = WORKS + "    telemetry_store.execute(INSERT, (1,), ensure=[DDL])\n    assert 'own' == 'reason'\n"
    run.settings["expected"] = "daemon"
    assert {"passed": 1, "failed": 1} == run(tests, "--telemetry-mode", "daemon"), run.output
    assert "assert 'own' == 'reason'" in run.output
    assert [] == run.writers()


@pytest.mark.slow
def test_jobs(run: Run) -> None:
    """`telemetry_jobs` records without a database."""
    tests = """
def test_jobs(telemetry_jobs):
    telemetry_jobs.execute(INSERT, (10,), ensure=[DDL])
    assert [{"a": 10}] == telemetry_jobs.inserted("t")
"""
    assert {"passed": 1} == run(tests), run.output
    assert [] == list(run.folder.rglob("*.db"))


@pytest.mark.slow
def test_in_workers(run: Run) -> None:
    """Workers of pytest-xdist have the option's mode, and folders of their own."""
    run.settings["expected"] = "daemon"
    tests = WORKS + WORKS.replace("def test_", "def test_again_")
    assert {"passed": 4} == run(tests, "--telemetry-mode", "daemon", "-n", "2"), run.output
    assert 4 == len(list(run.folder.rglob("telemetry.db")))
    assert [] == run.writers()


@pytest.mark.slow
def test_loaded_early(run: Run) -> None:
    """The package may be imported before pytest begins; that is no reason for a warning."""
    run.program = ["-c", "import sys, telemetry_bus.pytest_plugin, pytest; sys.exit(pytest.main())"]
    assert {"passed": 2} == run(WORKS), run.output


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-p", PLUGIN]])
def test_installed(options: list[str], run: Run) -> None:
    """Installed, pytest finds the plugin by itself, and naming it once more does no harm."""
    (run.folder / "telemetry_bus-0.dist-info").mkdir()
    for name, text in {
        "METADATA": "Metadata-Version: 2.1\nName: telemetry-bus\nVersion: 0\n",
        "RECORD": "telemetry_bus/__init__.py,,\ntelemetry_bus/pytest_plugin.py,,\n",
        "entry_points.txt": f"[pytest11]\n{PLUGIN} = {PLUGIN}\n",
    }.items():
        (run.folder / "telemetry_bus-0.dist-info" / name).write_text(text)
    run.environment["PYTHONPATH"] = f"{run.folder}:{ROOT}"
    run.loading = options
    assert {"passed": 2} == run(WORKS), run.output


@pytest.mark.slow
def test_a_session_without_it(run: Run) -> None:
    """Who only has the package installed does not pay for its libraries."""
    tests = """
def test_none():
    assert not {"sqlalchemy", "zmq", "telemetry_bus.testing", "telemetry_bus.cli"} & set(sys.modules)
"""
    assert {"passed": 1} == run(tests), run.output


@pytest.mark.slow
def test_the_mark_is_documented(run: Run) -> None:
    """`pytest --markers` and `--help` and `--fixtures` name what there is."""
    for option, words in {
        "--markers": ["telemetry_dead_letters"],
        "--help": ["--telemetry-mode", "telemetry_mode (string)"],
        "--fixtures": ["telemetry_store", "telemetry_jobs"],
    }.items():
        run("", option)
        assert [] == [word for word in words if word not in run.output]
