"""Rates and sparklines of `top`, from samples that are made up."""

from __future__ import annotations

import pytest

from telemetry_bus.cli.top.rates import ASCII, Course, most_urgent_first, sparkline

from ..sampling import SILENT, report, stream

UNKNOWN = {"jobs_per_s": None, "rows_per_s": None, "batches_per_s": None}


def test_rates_of_a_writer_are_by_its_own_uptime() -> None:
    """However long the question was on its way: the writer says when it answered. The first sample has none."""
    course = Course()
    assert UNKNOWN == course.add(report(), 0.0)["rates"]
    told = course.add(report(uptime_s=14.0, jobs_committed=10, rows_committed=40, batches=1), 99.0)
    assert {"jobs_per_s": 2.5, "rows_per_s": 10.0, "batches_per_s": 0.25} == told["rates"]
    assert [None, 10.0] == list(course.of("rows_per_s"))


def test_another_writer_has_no_rates_at_first() -> None:
    """Its counters began anew; that they are smaller, or larger, means nothing."""
    course = Course()
    course.add(report(jobs_committed=5), 0.0)
    assert UNKNOWN == course.add(report(epoch="e2", uptime_s=1.0, jobs_committed=3), 1.0)["rates"]
    assert UNKNOWN == course.add(report(epoch="e3", uptime_s=50.0, jobs_committed=900), 2.0)["rates"]
    assert 100 == course.add(report(epoch="e3", uptime_s=51.0, jobs_committed=1000), 3.0)["rates"]["jobs_per_s"]


def test_counters_that_fall_or_a_clock_that_stands_give_no_rate() -> None:
    """Never a negative one."""
    course = Course()
    course.add(report(jobs_committed=5, batches=1), 0.0)
    told = course.add(report(uptime_s=11.0, jobs_committed=4, batches=2), 1.0)["rates"]
    assert (None, 1.0) == (told["jobs_per_s"], told["batches_per_s"])
    assert UNKNOWN == course.add(report(uptime_s=11.0, jobs_committed=4, batches=2), 2.0)["rates"]


def test_a_writer_that_was_silent_is_compared_with_its_last_answer() -> None:
    """While it did not answer nothing is known; then the mean of all that time."""
    course = Course()
    course.add(report(), 0.0)
    assert UNKNOWN == course.add(report(**SILENT), 3.0)["rates"]
    assert 25.0 == course.add(report(uptime_s=14.0, jobs_committed=100), 4.0)["rates"]["jobs_per_s"]
    assert [None, None, 25.0] == list(course.of("jobs_per_s"))


def test_rates_of_streams_are_by_our_clock_and_need_no_writer() -> None:
    """What their journals say is acknowledged; a stream that has just been seen has none yet."""
    course = Course()
    course.add(report(stream("a", 10)), 100.0)
    told = course.add(report(stream("a", 50), stream("b", 900), **SILENT), 102.0)
    assert {"a": 20.0, "b": None} == {one["stream"]: one["jobs_per_s"] for one in told["streams"]}
    told = course.add(report(stream("a", 49), stream("b", 901)), 102.5)
    assert {"a": None, "b": 2.0} == {one["stream"]: one["jobs_per_s"] for one in told["streams"]}
    assert ([None, 20.0, None], [None, 2.0]) == (list(course.of_stream("a")), list(course.of_stream("b")))


def test_what_is_kept_is_bounded() -> None:
    """Of each rate the last values, of streams that have gone nothing."""
    course = Course(kept=3)
    for second in range(10):
        course.add(report(stream(f"s{second}", pending_bytes=second), stream("always", second)), float(second))
    assert [7, 8, 9] == list(course.of("pending_bytes"))
    assert [1.0] * 3 == list(course.of_stream("always"))
    assert [] == list(course.of_stream("s8"))
    assert [None] == list(course.of_stream("s9"))


def test_pending_bytes_are_those_of_all_streams() -> None:
    """In the report too."""
    assert 30 == Course().add(report(stream("a", 0, 10), stream("b", 0, 20)), 0.0)["pending_bytes"]


def test_what_matters_is_on_top() -> None:
    """The dead whose jobs wait, then by what waits, then by the rate; equals always in one order."""
    streams = [
        {**one, "jobs_per_s": rate}
        for one, rate in (
            (stream("idle b"), 0.0),
            (stream("idle a"), None),
            (stream("fast"), 9.0),
            (stream("dead idle", alive=False), 0.0),
            (stream("full", 0, 500), 1.0),
            (stream("dead", 0, 10, alive=False), 0.0),
        )
    ]
    expected = ["dead", "full", "fast", "dead idle", "idle a", "idle b"]
    assert expected == [one["stream"] for one in most_urgent_first(streams)]
    assert expected == [one["stream"] for one in most_urgent_first(reversed(streams))]


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([], 3, "   "),
        ([0.0, 0.0], 2, "▁▁"),
        ([0.0, 1.0, 50.0, 100.0], 4, "▁▂▅█"),
        ([0.001, 1000.0], 2, "▂█"),  # little is not nothing
        ([5.0], 3, "  █"),
        ([None, 1.0, None], 3, " █ "),
        ([9.0, 1.0, 2.0], 2, "▅█"),  # what is not seen does not count
        ([1.0], 0, ""),
    ],
)
def test_a_sparkline(values: list[float | None], width: int, expected: str) -> None:
    """As wide as asked, the newest to the right, the largest as high as can be."""
    assert expected == sparkline(values, width)


def test_a_sparkline_for_old_terminals() -> None:
    """Other marks, the same heights."""
    assert f"{ASCII[0]}{ASCII[-1]}" == sparkline([0.0, 1.0], 2, ASCII)
