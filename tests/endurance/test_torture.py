"""Random kills at full speed, and whether the oracle that judges them would notice."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ..support.bus import ROOT
from ..support.numbered import ENSURE, INSERT, TABLES, rows_of
from .torture.oracle import Tally, glance, judge
from .torture.producer import length_of

pytestmark = pytest.mark.integration

JOBS = 30

LEDGER = "CREATE TABLE telemetry_bus_ledger (stream BLOB PRIMARY KEY, last_sequence INTEGER)"
LETTERS = "CREATE TABLE telemetry_bus_dead_letters (id INTEGER PRIMARY KEY, stream BLOB, sequence INTEGER)"


@pytest.mark.slow
def test_random_kills_lose_double_and_tear_nothing(tmp_path: Path) -> None:
    """Some seconds of it; `scripts/torture` does the same for as long as one likes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "tests.endurance.torture", "--seconds", "6", "--kill-every", "0.3", "--seed", "1"],
        env={**environment, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1].endswith("lost 0, doubled 0, torn 0")
    assert [] == list(tmp_path.glob("telemetry-torture-*"))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two runs of `JOBS` jobs, as they must be."""
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection:
        for definition in (*ENSURE, LEDGER, LETTERS):
            connection.execute(definition)
        for number in range(1, JOBS + 1):
            for run in (0, 1):
                rows = rows_of(run, number, "x" * length_of(number))
                for table in TABLES:
                    connection.executemany(INSERT[table], rows[table])
        connection.executemany("INSERT INTO telemetry_bus_ledger VALUES (?, ?)", [(b"0", JOBS), (b"1", JOBS)])
        connection.commit()
    return path


def verdict(database: Path, *changes: str, accepted: int = JOBS) -> dict[str, object]:
    """What the oracle counts after these changes to a database, when `accepted` jobs of each run were accepted."""
    with closing(sqlite3.connect(database)) as connection:
        for sql in changes:
            connection.execute(sql)
        connection.commit()
    tally = Tally()
    judge(database, [accepted, accepted], tally)
    counts = {"lost": tally.lost, "doubled": tally.doubled, "torn": tally.torn, "findings": len(tally.findings)}
    return {name: count for name, count in counts.items() if count}


def test_the_oracle_is_content_with_what_is_right(database: Path) -> None:
    """All that was accepted; and one job more, that was in hand at the kill."""
    assert {} == verdict(database)
    assert {} == verdict(database, accepted=JOBS - 1)


COPY = "INSERT INTO {0} (run, number, part, text) SELECT run, number, part, text FROM {0} WHERE "


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        pytest.param(
            {"lost": 1},
            [f"DELETE FROM {table} WHERE run = 1 AND number = 7" for table in ("lefts", "rights")],
            id="lost",
        ),
        pytest.param(
            {"lost": 1, "findings": 1}, [f"DELETE FROM lefts WHERE run = 1 AND number = {JOBS}"], id="the last is lost"
        ),
        pytest.param({"torn": 1}, ["DELETE FROM rights WHERE run = 0 AND number = 5"], id="a table"),
        pytest.param({"torn": 1}, ["DELETE FROM rights WHERE run = 0 AND number = 5 AND part = 2"], id="a row"),
        pytest.param(
            {"doubled": 1, "findings": 1},
            [COPY.format("lefts") + "run = 0 AND number = 5", COPY.format("rights") + "run = 0 AND number = 5"],
            id="doubled, and out of order",
        ),
        pytest.param({"doubled": 1}, [COPY.format("lefts") + f"run = 0 AND number = {JOBS}"], id="the last is doubled"),
        pytest.param(
            {"findings": 1}, ["UPDATE rights SET id = id + 1000 WHERE run = 0 AND number = 5"], id="out of order"
        ),
        pytest.param(
            {"findings": 1},
            ["INSERT INTO lefts (run, number, part, text) VALUES (1, 30, 2, 'xxxxxxxxxx')"],
            id="a row that no job has",
        ),
        pytest.param({"findings": 1}, ["UPDATE lefts SET text = text || 'y' WHERE number = 9"], id="another text"),
        pytest.param({"findings": 1}, ["UPDATE telemetry_bus_ledger SET last_sequence = 29"], id="ledger behind"),
        pytest.param({"findings": 1}, ["DELETE FROM telemetry_bus_ledger WHERE stream = x'30'"], id="ledger lost"),
        pytest.param(
            {"findings": 1}, ["INSERT INTO telemetry_bus_dead_letters (sequence) VALUES (3)"], id="dead letter"
        ),
    ],
)
def test_the_oracle_notices(database: Path, expected: dict[str, int], changes: list[str]) -> None:
    """Each kind of harm is counted as what it is."""
    assert expected == verdict(database, *changes)


def test_the_oracle_notices_jobs_that_nobody_accepted(database: Path) -> None:
    """One job more may have been in hand at the kill; two cannot."""
    assert {"findings": 2} == verdict(database, accepted=JOBS - 2)


@pytest.mark.parametrize(
    ("torn", "change"),
    [
        (0, "SELECT 1"),
        (1, f"DELETE FROM rights WHERE run = 0 AND number > {JOBS - 3}"),
        (2, "DELETE FROM rights WHERE part = 3"),
    ],
)
def test_a_glance_notices_half_a_job(database: Path, torn: int, change: str) -> None:
    """The last job of a run is looked at while work goes on: it must be there in both tables."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(change)
        connection.commit()
    tally = Tally()
    glance(database, tally)
    assert torn == tally.torn
