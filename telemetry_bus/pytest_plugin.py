"""The pytest plugin: a store for a test, in the mode that the run is for, and a fake that records jobs.

PYTEST_DONT_REWRITE: there is nothing to rewrite, and it may have been imported before pytest begins.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # pytest loads this in every session: what the fixtures need is imported when they are used
    from .cli.survey import Bus
    from .store import TelemetryStore
    from .testing import RecordedJobs

_MODES = ("sync", "thread", "daemon")
_MARK = "telemetry_dead_letters"
#: How long what a test has left behind may take to be written, and then its writer to end. A guard against hanging.
_LIMIT_S = 30.0
_POLL_S = 0.005
#: More dead letters than these say nothing new.
_LETTERS_SHOWN = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--telemetry-mode` and the ini key `telemetry_mode`."""
    parser.getgroup("telemetry-bus").addoption(
        "--telemetry-mode", choices=_MODES, help="mode of the fixture telemetry_store, else the ini key telemetry_mode"
    )
    parser.addini("telemetry_mode", f"mode of the fixture telemetry_store: {', '.join(_MODES)}", default="sync")


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and see that the mode is one."""
    config.addinivalue_line("markers", f"{_MARK}: the database may refuse jobs of this test")
    if _mode(config) not in _MODES:
        raise pytest.UsageError(f"telemetry_mode: {_mode(config)!r} is not one of {', '.join(_MODES)}")


@pytest.fixture
def telemetry_store(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TelemetryStore]:
    """A store with a database of its own, in mode `sync` or in that of `--telemetry-mode`, shut down at the end.

    No `TELEMETRY_…` variable is set while it is there. In modes `thread` and `daemon` the test fails at its end when
    the database has refused one of its jobs, unless it is marked `telemetry_dead_letters`; the writer has ended then.
    """
    from .cli.survey import Bus
    from .store import TelemetryStore

    for name in list(os.environ):
        if name.startswith("TELEMETRY_"):
            monkeypatch.delenv(name)
    path = tmp_path_factory.mktemp("telemetry") / "telemetry.db"
    store = TelemetryStore(path, mode=_mode(request.config), spawn=True)
    bus = Bus.of(str(path))
    yield store
    try:
        store.shutdown(wait=True)
        _await_journals(bus)
    finally:
        _end_writer(bus)
    if request.node.get_closest_marker(_MARK) is None:
        _fail_for_dead_letters(bus)


@pytest.fixture
def telemetry_jobs() -> RecordedJobs:
    """What takes the place of a store and keeps the jobs: see `telemetry_bus.testing.RecordedJobs`."""
    from .testing import RecordedJobs

    return RecordedJobs()


def _mode(config: pytest.Config) -> str:
    return str(config.getoption("telemetry_mode") or config.getini("telemetry_mode"))


def _await_journals(bus: Bus) -> None:
    """Return when nothing waits any more of stores that the test has closed, or opened, by itself."""
    deadline = time.monotonic() + _LIMIT_S
    while waiting := bus.journals().pending_jobs:
        if time.monotonic() >= deadline:
            pytest.fail(f"{waiting} jobs of this test wait for a writer; its log is {bus.folder.log}", pytrace=False)
        time.sleep(_POLL_S)


def _end_writer(bus: Bus) -> None:
    """See the writer process end, if there is one. Another store of this program in mode `thread` is none."""
    if not bus.held or bus.owner().is_program:
        return
    from .cli.stop import stop
    from .runtime.spawn import Spawner

    if pid := stop(bus, _LIMIT_S):
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:  # the database is free a moment before the process has ended
            select.select([process], [], [], _LIMIT_S)
        finally:
            os.close(process)
    Spawner(bus.database, bus.folder, enabled=False).close()  # collects it, if this process has started it


def _fail_for_dead_letters(bus: Bus) -> None:
    from .cli.deadletters.letters import reading

    if bus.database.path is None or not bus.database.path.exists():
        return
    with reading(bus.database) as letters:
        count, shown = letters.count(), list(letters.summaries(_LETTERS_SHOWN))
    if count:
        errors = "\n".join(f"  {each.error_type}: {each.first_line} [{each.statement}]" for each in shown)
        pytest.fail(
            f"jobs of this test that the database has refused: {count}\n{errors}\n"
            f"(mark it {_MARK} if that is what it is about)",
            pytrace=False,
        )
