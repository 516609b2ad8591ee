"""Values as people read them, and reports as they are printed."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest

from producers.reports.rendering import Format, render
from producers.reports.report import Column, Grouping, Report, Row, share
from producers.reports.words import bar, duration, plural, words

COLUMNS = (
    Column("team", "team"),
    Column("name", "name", width=6),
    Column("tries", "tries", "count"),
    Column("rate", "success", "rate"),
    Column("ms", "time", "duration"),
    Column("at", "last", "moment"),
)
ROWS: list[dict[str, Any]] = [
    {"team": "red", "name": "Ann Lee", "tries": 12345, "rate": 0.875, "ms": 1500.0, "at": "2026-01-02T03:04:05.678"},
    {"team": "red", "name": "Bo", "tries": 2, "rate": 0.25, "ms": None, "at": None},
    {"team": None, "name": None, "tries": 0, "rate": None, "ms": 7.25, "at": datetime(2026, 1, 2)},
]


class Terminal(io.StringIO):
    """A stream that people look at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Pipe(io.StringIO):
    """A stream whose encoding knows little."""

    encoding = "ascii"


def report(rows: Sequence[Row] = ROWS, grouping: Grouping | None = None) -> Report:
    return Report("Runners", COLUMNS, rows, "runner", "Nobody ran.", grouping, "that is all")


def printed(form: Format, stream: io.StringIO | None = None, given: Report | None = None) -> str:
    stream = stream or io.StringIO()
    render(given or report(), form, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("expected", "ms"),
    [
        ("0 ms", 0),
        ("0.5 ms", 0.5),
        ("9.9 ms", 9.94),
        ("350 ms", 350.4),
        ("1.0 s", 1000),
        ("1.5 s", 1500),
        ("1 min 0 s", 60_000),
        ("2 min 5 s", 125_900),
        ("3 h 20 min", 12_000_000),
        ("2 d 4 h", 187_200_000),
        ("-5.0 s", -5000),
        ("-2 d 4 h", -187_200_000),
    ],
)
def test_durations(expected: str, ms: float) -> None:
    """In the unit that fits."""
    assert expected == duration(ms)


@pytest.mark.parametrize(
    ("expected", "rate"),
    [
        ("      ", 0.0),
        ("██████", 1.0),
        ("███   ", 0.5),
        ("▏     ", 1 / 48),
        ("█▌    ", 0.25),
        ("██████", 7.0),
        ("      ", None),
    ],
)
def test_bars(expected: str, rate: float | None) -> None:
    """Six characters of eight steps each, never more."""
    assert expected == bar(rate)


@pytest.mark.parametrize(
    ("expected", "kind", "value"),
    [
        ("-", "count", None),
        ("12,345", "count", 12345),
        ("66.7%", "rate", 2 / 3),
        ("0.50", "number", 0.5),
        ("2026-01-02 03:04:05", "moment", "2026-01-02 03:04:05.678"),
        ("2026-01-02 00:00:00", "moment", datetime(2026, 1, 2)),
        (r"a\x1bb", "text", "a\x1bb"),
    ],
)
def test_words(expected: str, kind: str, value: object) -> None:
    """Each kind of value has its form; what steers a terminal does not reach it."""
    assert expected == words(kind, value)


@pytest.mark.parametrize(
    ("expected", "count", "noun"),
    [
        ("1 host", 1, "host"),
        ("0 hosts", 0, "host"),
        ("2,000 entries", 2000, "entry"),
    ],
)
def test_plurals(expected: str, count: int, noun: str) -> None:
    """One thing, or many."""
    assert expected == plural(count, noun)


def test_shares() -> None:
    """Of nothing there is no share."""
    assert [0.5, 0.0, None, None] == [share(1, 2), share(None, 2), share(1, 0), share(1, None)]


def test_json() -> None:
    """All rows with plain values."""
    assert [*ROWS[:2], {**ROWS[2], "at": "2026-01-02 00:00:00"}] == json.loads(printed("json"))
    assert [] == json.loads(printed("json", given=report([])))


def test_csv() -> None:
    """A line with the keys, then all rows; what is not known is empty."""
    lines = list(csv.DictReader(io.StringIO(printed("csv"))))
    assert [column.key for column in COLUMNS] == list(lines[0])
    assert ("Ann Lee", "0.875", "") == (lines[0]["name"], lines[0]["rate"], lines[2]["team"])
    assert "team,name,tries,rate,ms,at\n" == printed("csv", given=report([]))


@pytest.mark.parametrize(
    ("text", "plain", "spreadsheet"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07", "\\x1b[31mred\\x07"),
        ("=1+2", "=1+2", "'=1+2"),
        ("  @sum(a)", "  @sum(a)", "'  @sum(a)"),
        ("-cmd", "-cmd", "'-cmd"),
        ("+1", "+1", "'+1"),
        ("\uff1d1", "\uff1d1", "'\uff1d1"),
        ("two\nlines \x9b", "two\nlines \\x9b", "two\nlines \\x9b"),
        ("plain = text", "plain = text", "plain = text"),
    ],
)
def test_csv_steers_nothing(text: str, plain: str, spreadsheet: str) -> None:
    """Neither a terminal nor, if it is for one, a spreadsheet. Numbers stay numbers."""
    given = report([{**ROWS[0], "name": text, "tries": -3}])
    for wanted, is_for in ((plain, False), (spreadsheet, True)):
        stream = io.StringIO()
        render(given, "csv", stream, spreadsheet=is_for)
        (line,) = csv.DictReader(io.StringIO(stream.getvalue()))
        assert (wanted, "-3") == (line["name"], line["tries"])


def test_nothing_to_show() -> None:
    """One line that says so."""
    assert "Nobody ran.\n" == printed("table", given=report([]))


def test_plain_text() -> None:
    """In a pipe: aligned columns, no bars, and escapes for what its encoding lacks."""
    text = printed("table", Pipe())
    assert [
        "Runners",
        "",
        "team  name     tries  success    time  last",
        r"red   Ann L\u2026  12,345    87.5%   1.5 s  2026-01-02 03:04:05",
        "red   Bo           2    25.0%       -  -",
        "-     -            0        -  7.2 ms  2026-01-02 00:00:00",
        "",
        "3 runners. that is all",
    ] == text.splitlines()


def by_team(rows: Sequence[Row]) -> list[tuple[Column, Any]]:
    return [(COLUMNS[2], sum(row["tries"] for row in rows)), (COLUMNS[3], 0.5)]


def test_groups() -> None:
    """Rows of one group stand under a line with its figures, which count those that are left out too."""
    text = printed("table", given=report(grouping=Grouping("team", by_team, most=1)))
    lines = [line for line in text.splitlines() if line]
    assert ["red  tries 12,347  success 50.0%", "Unknown  tries 0  success 50.0%"] == [lines[1], lines[4]]
    assert "name" == lines[2].split()[0]
    assert "Bo" not in text


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a terminal of some width shows."""

    def show(width: int, given: Report) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        shown = re.sub(r"\x1b\[[0-9;]*m", "", printed("table", Terminal(), given))
        assert max(map(len, shown.splitlines())) <= width
        return shown

    return show


@pytest.mark.parametrize("width", [80, 160])
def test_on_a_terminal(width: int, on_terminal: Callable[..., str]) -> None:
    """Bars beside the rates, everything in its place, and no line longer than the terminal is wide."""
    shown = on_terminal(width, report(grouping=Grouping("team", by_team, most=9)))
    assert "█████▎  87.5%" in shown
    assert "red  tries 12,347  success ███     50.0%" in shown
    assert "Ann Lee" in shown
    assert "2026-01-02 03:04:05" in shown
    assert shown.splitlines()[-1] == "3 runners. that is all"


def test_a_narrow_terminal(on_terminal: Callable[..., str]) -> None:
    """Numbers stay whole: first optional columns go, the last ones first, then the ends of texts."""
    columns = (
        Column("a", "a text that is long"),
        Column("b", "b", "count", optional=True),
        Column("c", "c", "count"),
        Column("d", "d", "count", optional=True),
    )
    row = {"a": "x" * 20, "b": 11111, "c": 22222, "d": 33333}
    given = Report("T", columns, [row], "row", "")
    assert "33,333" in on_terminal(44, given)
    shown = on_terminal(43, given)
    assert "33,333" not in shown
    assert "11,111" in shown
    shown = on_terminal(20, given)
    assert "11,111" not in shown
    assert "22,222" in shown
    assert "xxxxxxxxxx" in shown


@pytest.mark.parametrize("value", ["", "many", b"\xff", float("inf"), float("nan"), [1], {"deep": 1}, "\x1b[2J"])
def test_a_number_that_is_none(value: object) -> None:
    """A column of SQLite may hold anything: it is shown as a text, what is not finite as unknown."""
    for kind in ("count", "number", "rate", "duration"):
        shown = words(kind, value)
        assert ("-" if isinstance(value, float) else str(value).replace("\x1b", r"\x1b")) == shown


def test_moments_steer_no_terminal() -> None:
    """A stored moment may be any text."""
    assert r"\x1b[31mred" == words("moment", "\x1b[31mred")


def test_json_knows_no_infinity() -> None:
    """Readers of JSON refuse `Infinity` and `NaN`: null."""
    given = report([{"ms": float("inf"), "rate": float("nan"), "tries": 1}])
    assert '[{"ms": null, "rate": null, "tries": 1}]\n' == printed("json", given=given)


def test_wide_characters_stay_aligned() -> None:
    """On a screen a Chinese character takes two places, and a cut text no more than its column's."""
    given = Report(
        "T",
        (Column("name", "name", width=6), Column("tries", "tries", "count")),
        [{"name": "日本", "tries": 1}, {"name": "日本語日本語", "tries": 2}],
        "row",
        "none",
    )
    assert ["name   tries", "日本       1", "日本…      2"] == printed("table", given=given).splitlines()[2:5]


@pytest.mark.parametrize("form", ["table", "csv"])
def test_a_stream_that_knows_little(form: Format) -> None:
    """A pipe or a terminal of ASCII gets an escape for what it cannot show."""

    class Old(Terminal):
        encoding = "ascii"

    given = report([{**ROWS[0], "team": "赤"}], Grouping("team", lambda rows: [], 1))
    for stream in (Pipe(), Old()):
        assert "\\u8d64" in printed(form, stream, given)
        assert stream.getvalue().isascii()
