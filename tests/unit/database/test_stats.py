"""Counters and latencies."""

from __future__ import annotations

from telemetry_bus.database.stats import WINDOW, Statistics


def test_counters_add_up() -> None:
    """One call is one transaction."""
    statistics = Statistics()
    statistics.committed(3, 10, 0.001)
    statistics.committed(1, 2, 0.001)
    assert (4, 12, 2) == (statistics.jobs, statistics.rows, statistics.batches)


def test_quantiles_of_latencies() -> None:
    """In milliseconds; none before the first commit."""
    statistics = Statistics()
    assert (0.0, 0.0) == (statistics.commit_ms(0.5), statistics.commit_ms(0.99))
    for milliseconds in range(100, 0, -1):
        statistics.committed(1, 1, milliseconds / 1000)
    assert (51, 100) == (round(statistics.commit_ms(0.5)), round(statistics.commit_ms(0.99)))


def test_only_the_last_latencies_count() -> None:
    """What was slow long ago is forgotten."""
    statistics = Statistics()
    statistics.committed(1, 1, 60.0)
    for _ in range(WINDOW):
        statistics.committed(1, 1, 0.001)
    assert 1 == round(statistics.commit_ms(1.0))
    assert WINDOW + 1 == statistics.batches
