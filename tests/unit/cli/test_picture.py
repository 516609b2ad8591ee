"""The picture of `top`: it fits, and says what matters."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from telemetry_bus.cli.top.picture import picture
from telemetry_bus.cli.top.rates import Course

from ..sampling import SILENT, report, stream

TROUBLE = "the disk is full " * 20 + "[bold]\x1b[31m磁盘已满" + "END"


def drawn(columns: int, lines: int, *samples: dict[str, Any], encoding: str = "utf-8") -> list[str]:
    """The lines of the picture after these samples, without colours; each must fit."""
    course = Course()
    for second, sample in enumerate(samples):
        shown = {"time": "2026-01-02 03:04:05", **course.add(sample, float(second))}
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=columns, height=lines, legacy_windows=False)
    found = picture(shown, course, console)
    assert len(found) <= lines
    assert max(line.cell_len for line in found) <= columns
    for line in found:
        line.plain.encode(encoding)
        assert line.plain.isprintable()
    return [line.plain.rstrip() for line in found]


MANY = [stream(f"{number:032x}", 5 * number, 300_000 * number, alive=number % 3 > 0) for number in range(100)]
SAMPLES = {
    "nothing": [report(**SILENT | {"state": "absent", "pid": None})],
    "a busy one": [
        report(*MANY, jobs_committed=10**9, rows_committed=10**12, batches=10**6),
        report(*MANY, uptime_s=11.0, jobs_committed=2 * 10**9, rows_committed=10**13, batches=10**7, dead_letters=9),
    ],
    "trouble": [report(*MANY, state="degraded", last_error=TROUBLE, drift=[TROUBLE] * 5, database=TROUBLE)],
    "letters unknown": [report(**SILENT, dead_letters=None, last_error="locked")],
}


@pytest.mark.parametrize("columns", [1, 12, 40, 80, 160, 400])
@pytest.mark.parametrize("lines", [1, 3, 8, 15, 24, 50])
@pytest.mark.parametrize("name", SAMPLES)
def test_it_fits_every_terminal(name: str, lines: int, columns: int) -> None:
    """However much there is to tell."""
    assert "" != drawn(columns, lines, *SAMPLES[name])[0]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_it_can_be_shown_by_old_terminals(encoding: str) -> None:
    """Without marks that their encoding does not have."""
    lines = drawn(80, 24, *SAMPLES["a busy one"], encoding=encoding)
    assert "~ 87 more" == lines[-1]
    assert not any("?" in line for line in lines)
    drawn(40, 12, *SAMPLES["trouble"], encoding=encoding)


def test_the_usual_terminal() -> None:
    """Who writes where, rates with their course and totals, then the streams with what waits."""
    samples = [
        report(
            stream("a" * 32, 1000 * second, 100),
            stream("b" * 32, 0, 300_000 * second),
            uptime_s=10.0 + second,
            jobs_committed=1000 * second * second,
            rows_committed=0,
            batches=second,
            dead_letters=2,
            wal_bytes=100,
            commit_ms={"p50": 1.25, "p99": 10.0},
            pid=99,
        )
        for second in range(3)
    ]
    assert [
        "running  sqlite:////x.db                                            03:04:05 UTC",
        "process 99, up 0:00:12, version 1.0, epoch e1                             q ends",
        "",
        "jobs          3,000/s                           ▄█  4,000 committed",
        "rows              0/s                           ▁▁  0 committed",
        "batches         1.0/s                           ██  2 committed",
        "pending       586 KiB                          ▂▅█  ~60,000 jobs, 2 streams",
        "commit 1.2 ms (p50), 10.0 ms (p99)  dead letters 2  log 100 bytes (WAL)",
        "",
        "stream    process  alive  pending jobs  pending bytes     jobs/s",
        "bbbbbbbb       77  yes         ~60,000        585 KiB          0              ▁▁",
        "aaaaaaaa       77  yes              10      100 bytes      1,000              ██",
    ] == drawn(80, 24, *samples)


def test_streams_that_do_not_fit_are_counted() -> None:
    """In the last line; the most urgent ones are shown."""
    lines = drawn(80, 24, *SAMPLES["a busy one"])
    assert 24 == len(lines)
    shown = [line for line in lines if " no " in line or " yes " in line]
    assert f"… {100 - len(shown)} more" == lines[-1]
    assert f"{99:032x}"[:8] == shown[0][:8]


def test_all_streams_that_fit_are_shown() -> None:
    """To the last line."""
    room = len(drawn(80, 24, report(*MANY[:1])))
    lines = drawn(80, 24, report(*MANY[: 25 - room]))
    assert 24 == len(lines)
    assert not any("more" in line for line in lines)
    assert drawn(80, 24, report(*MANY[: 26 - room]))[-1] == "… 2 more"


def test_what_is_wrong_is_told_in_full_above_the_rest() -> None:
    """Wrapped, and made harmless."""
    lines = drawn(80, 24, report(state="degraded", last_error=TROUBLE))
    text = " ".join(lines[2 : lines.index("")])
    assert text.startswith("last error: the disk is full")
    assert text.endswith(r"[bold]\x1b[31m磁盘已满END")


def test_jobs_that_are_gone_are_told() -> None:
    """They keep a writer degraded that has no last error."""
    assert "jobs gone: 20 that were committed" in drawn(80, 24, report(state="degraded", jobs_gone=20))[2]


def test_what_is_wrong_leaves_room() -> None:
    """Half of the lines at most; that something is left out can be seen."""
    lines = drawn(40, 16, report(stream("a" * 32), state="degraded", last_error=TROUBLE))
    assert lines[7].endswith("…")
    assert any(line.startswith("jobs ") for line in lines)


def test_the_end_of_a_long_path_is_shown() -> None:
    """Its beginning is alike for all."""
    line = drawn(40, 24, report(database="sqlite:////var/lib/a/long/way/down/to/telemetry.db"))[0]
    assert line.startswith("running  …")
    assert "telemetry.db  03:04:05 UTC" in line


def test_a_narrow_terminal_does_without_what_is_least() -> None:
    """First the sparklines, then columns; what waits and the rate stay."""
    assert "stream    pending bytes     jobs/s" == drawn(40, 24, report(stream("a" * 32)))[-2]
    assert "stream    process  pending jobs  pending bytes     jobs/s" == drawn(62, 24, report(stream("a" * 32)))[-2]
