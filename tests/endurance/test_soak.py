"""The long run in short, and whether what judges it would notice."""

from __future__ import annotations

import mmap
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from ..support.bus import ROOT
from ..support.numbered import ENSURE, INSERT, TABLES, parts_of
from ..support.processes import running
from .soak import __main__ as soak
from .soak import jobs, judging, plot
from .soak.oracle import Oracle
from .soak.samples import Samples
from .soak.samples import process as measure

pytestmark = pytest.mark.integration

KINDS = ("memory", "descriptors", "threads", "log (WAL)", "database", "bus folder", "journals", "pending jobs")
SAMPLES, EVERY_S = 80, 5.0


@pytest.mark.slow
def test_some_seconds_of_it(tmp_path: Path) -> None:
    """Every job exactly once, each kind of series in the table, and neither files nor processes left."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "tests.endurance.soak", "--seconds", "6", "--seed", "1"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert "" == ended.stderr
    *table, summary, verdict = ended.stdout.splitlines()
    assert summary.endswith("lost 0, doubled 0, torn 0")
    assert "nothing grows" == verdict
    for kind in KINDS:
        assert any(line.startswith(kind) for line in table), kind
    assert [] == list(tmp_path.iterdir())
    assert {} == running(f"{tmp_path}/")


# The rule


@pytest.fixture
def judged() -> Callable[..., bool | None]:
    """The verdict on a series of one kind with these values."""

    def judge(kind: str, values: Sequence[float], every: float = EVERY_S) -> bool | None:
        points = [(every * number, value) for number, value in enumerate(values)]
        verdict: bool | None = judging.judge(judging.Series(judging.KINDS[kind], "somebody", points)).grows
        return verdict

    return judge


def test_every_kind_of_series_is_judged_here() -> None:
    """A new kind wants a place in these tests."""
    assert list(KINDS) == list(judging.KINDS)


@pytest.mark.parametrize(
    ("kind", "start", "per_sample"),
    [
        ("memory", 55, 0.2),
        ("descriptors", 20, 0.2),
        ("threads", 4, 0.1),
        ("log (WAL)", 60, 2),
        ("database", 5, 0.2),
        ("bus folder", 12, 0.3),
        ("journals", 7, 0.2),
        ("pending jobs", 10, 20),
    ],
)
def test_a_growing_series_is_found(
    judged: Callable[..., bool | None], kind: str, start: float, per_sample: float
) -> None:
    """One that grows slowly and steadily below its noise, from a value as they are seen."""
    noise = random.Random(1)
    values = [start + per_sample * number + noise.uniform(-0.05, 0.05) * start for number in range(SAMPLES)]
    assert judged(kind, values) is True


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("memory", 55),
        ("descriptors", 20),
        ("threads", 4),
        ("log (WAL)", 30),
        ("database", 5),
        ("bus folder", 12),
        ("journals", 7),
        ("pending jobs", 100),
    ],
)
def test_a_flat_noisy_series_is_not(judged: Callable[..., bool | None], kind: str, level: float) -> None:
    """Caches fill in the first quarter, values swing by a third, and a few go far beyond."""
    noise = random.Random(2)
    values = [level * min(1.0, 0.3 + number / 20) * noise.uniform(0.7, 1.3) for number in range(SAMPLES)]
    for number in (3, 9, 62, 66, 71, 79):
        values[number] = 10 * level
    assert judged(kind, values) is False


@pytest.mark.parametrize(("last", "grows"), [(107.0, False), (107.2, True)])
def test_the_limit_is_a_twentieth_and_the_allowance(
    judged: Callable[..., bool | None], last: float, grows: bool
) -> None:
    """Of memory: 100 MiB may become 107."""
    assert grows is judged("memory", [100.0] * (SAMPLES // 2) + [last] * (SAMPLES // 2))


@pytest.mark.parametrize(("last", "grows"), [(128.0, False), (128.1, True)])
def test_a_log_may_be_as_long_as_it_gets_before_it_is_moved(
    judged: Callable[..., bool | None], last: float, grows: bool
) -> None:
    """A log that was short in the second quarter and is long in the last one swings."""
    assert grows is judged("log (WAL)", [5.0] * (SAMPLES // 2) + [last] * (SAMPLES // 2))


@pytest.mark.parametrize(("samples", "every"), [(31, 5.0), (80, 0.7)])
def test_a_short_life_is_not_judged(judged: Callable[..., bool | None], samples: int, every: float) -> None:
    """Of too few samples, or of too few seconds."""
    assert judged("memory", [float(number) for number in range(samples)], every) is None


@pytest.mark.parametrize(("grows", "torn", "code"), [(True, 0, 1), (False, 0, 0), (False, 1, 1)])
def test_the_exit_code_tells_of_growth_and_harm(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    grows: bool,
    torn: int,
    code: int,
) -> None:
    """A whole run is judged by its series, except for the bus as a whole while writers were ended."""
    memory = judging.Series(judging.KINDS["memory"], "writer, life 2")
    rough = judging.Series(judging.KINDS["journals"], "bus, life 1")
    memory.points = [(EVERY_S * at, 50.0 + grows * at) for at in range(SAMPLES)]
    rough.points = [(EVERY_S * at, float(at)) for at in range(SAMPLES)]

    class Run:
        quiet_from = 0.0

        def __init__(self, database: Path, *_: object) -> None:
            self.oracle = Oracle(database)
            self.oracle.tally.torn = torn
            self.series = [memory, rough]

        def run(self) -> None:
            pass

        def summary(self) -> str:
            return "all of it"

    monkeypatch.setattr(soak, "Soak", Run)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert code == soak.main(["--seconds", "1"])
    printed = capsys.readouterr().out
    assert grows is ("GROWS" in printed)
    assert "bus, life 1" not in printed


def test_a_plot_without_matplotlib_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not after half an hour: nothing is started."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(soak, "Soak", None)
    monkeypatch.setattr(plot, "available", lambda: False)
    assert 2 == soak.main(["--out", "soak.svg"])
    assert "matplotlib" in capsys.readouterr().err


@pytest.mark.slow
def test_the_plot_is_small_and_keeps_its_text(tmp_path: Path) -> None:
    """Long and noisy series of everything there is, in one file for a page; peaks are not thinned away."""
    pytest.importorskip("matplotlib")
    out = tmp_path / "soak.svg"
    people = ["writer, life 1", "producer 1", "producer 2", "producer 3", "reader"]
    noise = random.Random(3)
    series = [
        judging.Series(kind, name, [(float(at), noise.uniform(1, 100)) for at in range(1500)])
        for kind in judging.KINDS.values()
        for name in (people if kind.name in ("memory", "descriptors", "threads") else ["bus, life 2"])
    ]
    series[0].points[777] = (777.0, 500.0)
    plot.draw(series, 600.0, 1500.0, out)
    text = out.read_text()
    assert len(text) < 150_000
    for words in (*KINDS, "writer", "whole bus", "reader", "minutes"):
        assert words in text
    assert (777.0, 500.0) in plot._thinned(series[0].points)


# What is measured


def test_a_process_is_measured(tmp_path: Path) -> None:
    """Memory that is touched, a file that is open, a thread that runs: each is seen in the place it belongs to."""
    stop = threading.Event()
    before = measure(os.getpid())
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with (tmp_path / "x").open("w"), mmap.mmap(-1, 64 << 20) as block:
            reserved = measure(os.getpid())
            block.write(b"x" * len(block))
            touched = measure(os.getpid())
    finally:
        stop.set()
        thread.join()
    assert (1, 1) == (reserved[1] - before[1], reserved[2] - before[2])
    assert reserved[0] - before[0] < 32
    assert touched[0] - reserved[0] > 48


def test_a_process_that_is_gone_leaves_no_sample() -> None:
    """A writer may be killed between its status and the look at it."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert () == measure(ended.pid)


def test_each_writer_is_a_life_of_its_own(tmp_path: Path) -> None:
    """The bus as a whole begins anew when it is told to; one who stays goes on."""
    samples = Samples(tmp_path / "x.db", tmp_path / "x.db.bus")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        for at, writer in enumerate([os.getpid(), os.getpid(), other.pid]):
            samples.take(float(at), {"pid": writer, "pending_jobs": at}, {"reader": os.getpid()})
        samples.renew()
        samples.take(3.0, {"pid": None, "pending_jobs": 7}, {"reader": os.getpid()})
        other.communicate(b"\n")
    lengths = {(one.kind.name, one.of): len(one.points) for one in samples.series}
    assert {"writer, life 1": 2, "writer, life 2": 1, "reader": 4} == {
        of: length for (kind, of), length in lengths.items() if kind == "threads"
    }
    for kind in ("journals", "pending jobs"):
        assert (3, 1) == (lengths[kind, "bus, life 1"], lengths[kind, "bus, life 2"])


def test_the_files_of_a_bus_are_measured(tmp_path: Path) -> None:
    """Journals by their number, all files by what they take of the disk; a quarantine that held anything is known."""
    samples = Samples(tmp_path / "x.db", tmp_path / "x.db.bus")
    for name, size in [
        ("x.db", 2 << 20),
        ("x.db-wal", 1 << 20),
        ("x.db.bus/journals/a.journal", 1 << 20),
        ("x.db.bus/journals/b.journal", 1 << 20),
        ("x.db.bus/writer.log", 1 << 20),
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    idle = {"pid": None, "pending_jobs": 7}
    samples.take(0.0, idle, {})
    last = {one.kind.name: one.points[-1][1] for one in samples.series}
    assert {"database": 2, "log (WAL)": 1, "journals": 2, "bus folder": 3, "pending jobs": 7} == {
        name: round(value, 1) for name, value in last.items()
    }
    assert 0 == samples.quarantined
    damaged = tmp_path / "x.db.bus/quarantine/c.journal"
    damaged.parent.mkdir()
    damaged.touch()
    samples.take(1.0, idle, {})
    damaged.unlink()
    samples.take(2.0, idle, {})
    assert 1 == samples.quarantined


# The oracle

LETTERS = "CREATE TABLE telemetry_bus_dead_letters (id INTEGER PRIMARY KEY, statement TEXT)"
COPY = "INSERT INTO {0} (run, number, part, text) SELECT run, number, part, text FROM {0} WHERE "
LAST = 260


class Follower:
    """An oracle, and a database of two runs up to job `LAST`, of which it has seen those up to `seen`."""

    def __init__(self, path: Path, seen: int) -> None:
        self._path = path
        self.oracle = Oracle(path)
        self.change(*ENSURE, LETTERS)
        self._fill(1, seen)
        self.oracle.glance()
        self._fill(seen + 1, LAST)

    def change(self, *changes: str) -> None:
        with closing(sqlite3.connect(self._path)) as connection:
            for sql in changes:
                connection.execute(sql)
            connection.commit()

    def verdict(self, accepted: int = LAST) -> dict[str, int]:
        """What the oracle counts in the end."""
        self.oracle.finish([(0, accepted), (1, accepted)])
        tally = self.oracle.tally
        counts = {"lost": tally.lost, "doubled": tally.doubled, "torn": tally.torn, "findings": len(tally.findings)}
        assert tally.failed is any(counts.values())
        return {name: count for name, count in counts.items() if count}

    def _fill(self, first: int, last: int) -> None:
        with closing(sqlite3.connect(self._path)) as connection:
            for number in range(first, last + 1):
                for run in (0, 1):
                    if jobs.is_poison(number):
                        sql = jobs.POISON.format(run, number)
                        connection.execute("INSERT INTO telemetry_bus_dead_letters (statement) VALUES (?)", (sql,))
                        continue
                    for table, parts in zip(TABLES, parts_of(number), strict=True):
                        rows = [(run, number, part, "x") for part in range(1, parts + 1)]
                        connection.executemany(INSERT[table], rows)
            connection.commit()


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    """It has seen nothing of jobs 201 to 260, of which the 250th of each run is a dead letter."""
    return Follower(tmp_path / "x.db", 200)


def test_the_oracle_is_content_with_what_is_right(follower: Follower) -> None:
    """What was read may be deleted, and a dead letter may be purged after it was seen."""
    assert [] == follower.oracle.purge()
    follower.oracle.glance()
    follower.change(*(f"DELETE FROM {table} WHERE id < 100" for table in ("lefts", "rights")))
    assert [1, 2] == follower.oracle.purge()
    follower.change("DELETE FROM telemetry_bus_dead_letters")
    assert {} == follower.verdict()
    assert (2 * LAST, 2) == (follower.oracle.tally.jobs, follower.oracle.tally.letters)


@pytest.mark.parametrize(
    ("accepted", "expected"), [(LAST - 1, {}), (LAST - 2, {"findings": 2}), (LAST + 2, {"lost": 4})]
)
def test_the_oracle_compares_with_what_was_accepted(
    follower: Follower, accepted: int, expected: dict[str, int]
) -> None:
    """One job more may have been in hand at a kill."""
    assert expected == follower.verdict(accepted)


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        pytest.param(
            {"lost": 1},
            [f"DELETE FROM {table} WHERE run = 1 AND number = 220" for table in ("lefts", "rights")],
            id="lost",
        ),
        pytest.param({"torn": 1}, ["DELETE FROM rights WHERE run = 0 AND number = 221"], id="a table"),
        pytest.param({"torn": 1}, ["DELETE FROM rights WHERE run = 0 AND number = 221 AND part = 2"], id="a row"),
        pytest.param({"doubled": 1}, [COPY.format("lefts") + "run = 0 AND number = 222"], id="doubled"),
        pytest.param({"doubled": 1}, [COPY.format("lefts") + "run = 0 AND number = 9"], id="an old one once more"),
        pytest.param(
            {"doubled": 1},
            ["DELETE FROM lefts WHERE id < 300", COPY.format("rights") + "run = 1 AND number = 8"],
            id="a deleted one once more",
        ),
        pytest.param(
            {"findings": 1}, ["UPDATE rights SET id = id + 1000 WHERE run = 0 AND number = 221"], id="out of order"
        ),
        pytest.param({"lost": 1}, ["DELETE FROM telemetry_bus_dead_letters WHERE id = 1"], id="dead letter lost"),
        pytest.param(
            {"doubled": 1},
            [
                "INSERT INTO telemetry_bus_dead_letters (statement) SELECT statement FROM telemetry_bus_dead_letters "
                "WHERE id = 1"
            ],
            id="dead letter doubled",
        ),
        pytest.param(
            {"torn": 1}, ["INSERT INTO lefts (run, number, part) VALUES (0, 250, 1)"], id="half a job that failed"
        ),
        pytest.param(
            {"findings": 1},
            ["INSERT INTO telemetry_bus_dead_letters (statement) VALUES ('INSERT INTO lefts')"],
            id="dead letter of a good job",
        ),
    ],
)
def test_the_oracle_notices(follower: Follower, expected: dict[str, int], changes: list[str]) -> None:
    """Each kind of harm is counted as what it is."""
    follower.change(*changes)
    assert expected == follower.verdict()


def test_a_dead_letter_that_comes_again_is_noticed(follower: Follower) -> None:
    """Its job was applied a second time."""
    follower.oracle.glance()
    follower.oracle.purge()
    follower.change(
        "CREATE TABLE aside AS SELECT * FROM telemetry_bus_dead_letters", "DELETE FROM telemetry_bus_dead_letters"
    )
    follower.oracle.glance()
    follower.change("INSERT INTO telemetry_bus_dead_letters SELECT * FROM aside WHERE id = 2")
    assert {"doubled": 1} == follower.verdict()


def test_a_dead_letter_that_vanishes_is_noticed(follower: Follower) -> None:
    """Nobody gave the order."""
    follower.oracle.glance()
    follower.change("DELETE FROM telemetry_bus_dead_letters WHERE id = 2")
    assert {"findings": 1} == follower.verdict()
