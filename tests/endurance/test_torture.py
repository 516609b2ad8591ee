"""Random kills at full speed, and whether the oracle that judges them would notice."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from ..support.bus import ROOT
from ..support.numbered import ENSURE, INSERT, TABLES, rows_of
from .torture.oracle import Restore, Taken, Tally, glance, judge
from .torture.producer import length_of

pytestmark = pytest.mark.integration

JOBS = 30

LEDGER = "CREATE TABLE telemetry_bus_ledger (stream BLOB PRIMARY KEY, last_sequence INTEGER)"
LETTERS = "CREATE TABLE telemetry_bus_dead_letters (id INTEGER PRIMARY KEY, stream BLOB, sequence INTEGER)"


@pytest.mark.slow
def test_random_kills_lose_double_and_tear_nothing(tmp_path: Path) -> None:
    """Some seconds of each setting; `scripts/torture` does the same for as long as one likes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")}
    ended = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "tests.endurance.torture",
            *["--seconds", "8", "--round", "2", "--kill-every", "0.3", "--seed", "1"],
        ],
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
                rows = rows_of(run, number, "x" * length_of(run, number))
                for table in TABLES:
                    connection.executemany(INSERT[table], rows[table])
        connection.executemany("INSERT INTO telemetry_bus_ledger VALUES (?, ?)", [(b"0", JOBS), (b"1", JOBS)])
        connection.commit()
    return path


def verdict(database: Path, *changes: str, accepted: int = JOBS, taken: Taken | None = None) -> dict[str, object]:
    """What the oracle counts after these changes to a database, when `accepted` jobs of each run were accepted."""
    with closing(sqlite3.connect(database)) as connection:
        for sql in changes:
            connection.execute(sql)
        connection.commit()
    tally = Tally()
    judge(database, [accepted, accepted], tally, taken)
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


@pytest.mark.parametrize(
    ("expected", "took", "told", "over"),
    [
        pytest.param({}, [21, 22, 23], 3, (), id="what was told"),
        pytest.param({"findings": 1}, [21, 22, 23], 2, (), id="not all is told"),
        pytest.param({"findings": 1}, [21, 22], 3, (), id="more is told"),
        pytest.param({"findings": 1}, [21, 22, 23], 0, (), id="nothing is told"),
        pytest.param({}, [21, 22, 23], 0, (1,), id="its producer had ended"),
        pytest.param({"findings": 1}, [21, 22, 23], 3, (1,), id="its producer had ended, and yet it is told"),
        pytest.param({"lost": 1}, [21, 22, 24], 2, (), id="a hole behind what was taken back"),
        pytest.param({"lost": 1}, [20, 21], 1, (), id="what the backup had"),
        pytest.param({"lost": 1}, [21, 22, 23, 24, 25, 26], 5, (), id="what came after the restore"),
    ],
)
def test_the_oracle_knows_what_a_restore_takes(
    database: Path, expected: dict[str, int], took: list[int], told: int, over: tuple[int, ...]
) -> None:
    """The backup had 20 jobs of run 1, and there were 25 when it took the database's place: what is missing of these,
    behind the backup's and without a hole, and as much as was told."""
    counts = verdict(
        database,
        *(f"DELETE FROM {table} WHERE run = 1 AND number = {number}" for table in TABLES for number in took),
        taken=Taken([Restore({0: JOBS, 1: 20}, [JOBS, 25], over)], Counter({f"{1:032x}": told} if told else {})),
    )
    assert expected == counts


def test_what_writers_tell_is_heard_once(tmp_path: Path) -> None:
    """A log is read again and again, and may be another one meanwhile."""
    log, taken = tmp_path / "writer.log", Taken()
    lines = [f"08:0{at} ERROR {at} jobs that stream {1:032x} had committed are not in the database: …" for at in (1, 2)]
    for text in (lines[0], "\n".join(lines), "08:05 INFO 7 jobs"):
        log.write_text(text + "\n")
        taken.hear(log)
    taken.hear(tmp_path / "none.log")
    assert {f"{1:032x}": 3} == taken.told


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
