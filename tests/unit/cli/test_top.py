"""`telemetry-bus top` where no writer process answers, in a pipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.cli import exit_codes, main, status
from telemetry_bus.cli.survey import COUNTED_BYTES, Bus
from telemetry_bus.cli.top import command as top
from telemetry_bus.errors import DatabaseFault

from .test_status import KEYS

Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def waits(monkeypatch: Patch) -> list[float]:
    """How long it would have waited between samples."""
    waits: list[float] = []

    def sleep(duration: float) -> bool:
        waits.append(duration)
        return True

    monkeypatch.setattr(top, "_sleep", sleep)
    return waits


def test_as_many_samples_as_asked_for(database: Path, capsys: Captured, waits: list[float]) -> None:
    """One JSON object a line with the keys of `status` and the rates; an interval between them and none behind. What
    is seen does not matter to the exit code, and looking makes nothing."""
    database.touch()
    before = sorted(database.parent.rglob("*"))
    words = ["top", "--json", "--count", "3", "--interval", "7", "--database", str(database)]
    assert exit_codes.DONE == main(words)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["absent"] * 3 == [sample["state"] for sample in told]
    assert KEYS | {"time", "rates", "pending_bytes"} <= told[0].keys()
    assert dict.fromkeys(("jobs_per_s", "rows_per_s", "batches_per_s")) == told[0]["rates"]
    assert 2 == len(waits)
    assert all(0 < wait <= 7 for wait in waits)
    assert before == sorted(database.parent.rglob("*"))


def test_text_in_a_pipe(database: Path, capsys: Captured) -> None:
    """A block for each sample, divided by empty lines; without a writer, the stream's rate is that of its journal."""
    with TelemetryStore(database, spawn=False) as store:
        store.execute("INSERT INTO t VALUES (1)")
        assert exit_codes.DONE == main(["top", "--count", "2", "--interval", "1", "--database", str(database)])
        stream = Path(store.stats().journal or "").stem
        store.shutdown(wait=False)
    blocks = [block.splitlines() for block in capsys.readouterr().out.split("\n\n")]
    assert [["time", "state", "database", "pending", "dead", "log", "rates", "stream", stream]] * 2 == [
        [line.split()[0] for line in block] for block in blocks
    ]
    assert ["rates         - jobs/s, - rows/s, - batches/s"] * 2 == [block[6] for block in blocks]
    assert ["-", "0.0"] == [block[-1].split()[-1] for block in blocks]


@pytest.mark.parametrize("words", [["--interval", "0.05"], ["--interval", "x"], ["--count", "0"], ["--count", "-1"]])
def test_options_that_make_no_sense(words: list[str], database: Path, capsys: Captured) -> None:
    """Told in one line before anything is looked at."""
    assert exit_codes.USAGE == main(["top", *words, "--database", str(database)])
    told = capsys.readouterr()
    assert ("", 1) == (told.out, told.err.count("\n"))
    assert words[0] in told.err


def test_journals_are_not_counted_to_the_end(database: Path, monkeypatch: Patch) -> None:
    """That would take a core from the writer whom one watches."""
    database.touch()
    asked = []

    def look(bus: Bus, most_bytes: int) -> dict[str, object]:
        asked.append(most_bytes)
        return status.status(bus, most_bytes)

    monkeypatch.setattr(top, "status", look)
    assert exit_codes.DONE == main(["top", "--json", "--count", "1", "--database", str(database)])
    assert [COUNTED_BYTES] == asked


def test_what_cannot_be_looked_at_is_told_in_one_line(database: Path, capsys: Captured, monkeypatch: Patch) -> None:
    """And ends it; what was shown before stays."""
    database.touch()
    looks = iter([status.status])

    def look(bus: Bus, most_bytes: int) -> dict[str, object]:
        for first in looks:
            return first(bus, most_bytes)
        raise DatabaseFault("gone", operation="look")

    monkeypatch.setattr(top, "status", look)
    assert exit_codes.FAILED == main(["top", "--json", "--database", str(database)])
    told = capsys.readouterr()
    assert (1, 1) == (told.out.count("\n"), told.err.count("\n"))
    assert told.err.startswith("telemetry-bus: look: gone")
