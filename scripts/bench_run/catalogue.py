"""Everything that can be measured, and the figures that are made of it, with their goals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import direct, one_process, peers, through_bus
from .setting import Figures, Measure

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        *through_bus.MEASURES, *one_process.MEASURES, *direct.MEASURES, *peers.MEASURES,
    )
}

#: The raw figures of one round, by measure.
Round = Mapping[str, Figures]


@dataclass(frozen=True)
class Goal:
    """What a figure should be: at least, or at most, `value`."""

    at_least: bool
    value: float

    def met(self, value: float) -> bool:
        return value >= self.value if self.at_least else value <= self.value


@dataclass(frozen=True)
class Figure:
    """A line of the table: a raw figure of a measure, or with `over` its ratio to the same of another measure."""

    group: str
    label: str
    measure: str
    key: str
    unit: str = ""
    over: str | None = None
    goal: Goal | None = None

    def values(self, rounds: Sequence[Round]) -> list[float]:
        """One for each round, of those that have measured what is needed. A ratio is of one round's two figures."""
        found = []
        for figures in rounds:
            value = figures.get(self.measure, {}).get(self.key)
            divisor = 1.0 if self.over is None else figures.get(self.over, {}).get(self.key)
            if value is not None and divisor is not None:
                found.append(value / divisor)
        return found


@dataclass(frozen=True)
class Result:
    """A figure with what the rounds gave."""

    figure: Figure
    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        return None if self.figure.goal is None else self.figure.goal.met(self.median)


def results(rounds: Sequence[Round]) -> list[Result]:
    """Those figures for which there is something, in the order of the catalogue."""
    return [Result(figure, values) for figure in FIGURES if (values := figure.values(rounds))]


RATES = "rows per second"


def _at_least(value: float) -> Goal:
    return Goal(True, value)


def _at_most(value: float) -> Goal:
    return Goal(False, value)


def _rates(*names: str) -> list[Figure]:
    return [Figure(RATES, MEASURES[name].about, name, "rows_per_s") for name in names]


def _ratio(label: str, measure: str, over: str, goal: Goal | None = None) -> Figure:
    return Figure("ratios, each of one round", label, measure, "rows_per_s", over=over, goal=goal)


def _costs(label: str, measure: str, key: str, goal: Goal | None = None) -> Figure:
    return Figure("CPU, µs", label, measure, key, "µs", goal=goal)


FIGURES: tuple[Figure, ...] = (
    *_rates(
        "bus", "bus-one", "bus-100", "bus-callable", "bus-byline", "bus-normal", "bus-blocking", "executemany",
        "executemany-byline", "limit", "direct", "direct-100", "connection-per-job", "queue", "sqlite_rx", "peewee",
    ),
    _ratio("bus ÷ executemany", "bus", "executemany", _at_least(1.0)),
    _ratio("bus ÷ limit", "bus", "limit", _at_least(0.45)),
    _ratio("bus ÷ direct, a transaction for each row", "bus", "direct", _at_least(12)),
    _ratio("bus ÷ direct, jobs of a hundred rows", "bus-100", "direct-100"),
    _ratio("bus ÷ executemany, jobs of a hundred rows", "bus-100", "executemany"),
    _ratio("bus ÷ executemany, 27 columns", "bus-byline", "executemany-byline"),
    _ratio("bus ÷ a connection for each job", "bus", "connection-per-job"),
    _ratio("bus ÷ multiprocessing.Queue", "bus", "queue"),
    _ratio("bus ÷ sqlite_rx", "bus", "sqlite_rx"),
    _ratio("bus, waiting for each row ÷ sqlite_rx", "bus-blocking", "sqlite_rx"),
    _ratio("bus ÷ peewee", "bus", "peewee"),
    _ratio("bus, waiting for each row ÷ peewee", "bus-blocking", "peewee"),
    _ratio("durability full ÷ normal", "bus", "bus-normal", _at_least(0.9)),
    _costs("execute, calling thread", "bus", "calling_cpu_us", _at_most(1.5)),
    _costs("row, whole producer", "bus", "process_cpu_us", _at_most(2.5)),
    _costs("row, writer", "bus", "writer_cpu_us"),
    _costs("execute, calling thread, one producer", "bus-one", "calling_cpu_us", _at_most(1.5)),
    _costs("row, whole producer, one producer", "bus-one", "process_cpu_us", _at_most(2.5)),
    Figure("the slowest of all", "execute through the bus", "bus-worst", "worst_ms", "ms", goal=_at_most(20)),
    Figure("the slowest of all", "transaction of a direct writer", "direct", "worst_ms", "ms"),
)
