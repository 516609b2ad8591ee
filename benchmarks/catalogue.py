"""Everything that can be measured, and the figures that are made of it, with their goals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from telemetry_bus.config import DEFAULT_LINGER_MS

from . import (
    direct,
    fairness,
    interference,
    job_cost,
    latency,
    memory,
    one_process,
    peers,
    reports,
    stages,
    starting,
    through_bus,
)
from .setting import Figures, Measure

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        *through_bus.MEASURES,
        *one_process.MEASURES,
        *direct.MEASURES,
        *peers.MEASURES,
        *latency.MEASURES,
        *fairness.MEASURES,
        *interference.MEASURES,
        *job_cost.MEASURES,
        *memory.MEASURES,
        *starting.MEASURES,
        *reports.MEASURES,
        *stages.MEASURES,
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
    """A line of the table: a raw figure of a measure; with `over`, the ratio to that measure's figure of that name."""

    group: str
    label: str
    measure: str
    key: str
    unit: str = ""
    over: tuple[str, str] | None = None
    goal: Goal | None = None

    def values(self, rounds: Sequence[Round]) -> list[float]:
        """One for each round, of those that have measured what is needed. A ratio is of one round's two figures."""
        found = []
        for figures in rounds:
            value = _raw(figures, self.measure, self.key)
            divisor = 1.0 if self.over is None else _raw(figures, *self.over)
            if value is not None and divisor is not None:
                found.append(value / divisor)
        return found


def _raw(figures: Round, measure: str, key: str) -> float | None:
    return figures.get(measure, {}).get(key)


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
RATIOS = "ratios, each of one round"


def _at_least(value: float) -> Goal:
    return Goal(True, value)


def _at_most(value: float) -> Goal:
    return Goal(False, value)


def _rates(*names: str) -> list[Figure]:
    return [Figure(RATES, MEASURES[name].about, name, "rows_per_s") for name in names]


def _ratio(label: str, measure: str, over: str, goal: Goal | None = None) -> Figure:
    return Figure(RATIOS, label, measure, "rows_per_s", over=(over, "rows_per_s"), goal=goal)


def _cost(label: str, measure: str, key: str, goal: Goal | None = None) -> Figure:
    return Figure("CPU, µs", label, measure, key, "µs", goal=goal)


def _time(label: str, measure: str, key: str, goal: Goal | None = None) -> Figure:
    return Figure("time, ms", label, measure, key, "ms", goal=goal)


def _memory(label: str, measure: str, key: str, goal: Goal | None = None) -> Figure:
    return Figure("memory, MB", label, measure, key, "MB", goal=goal)


def _report(label: str, key: str, goal: Goal | None = None) -> Figure:
    return Figure("reports over a million extractions, s", label, "reports", key, "s", goal=goal)


def _interference() -> list[Figure]:
    """Case by case: each contender, the bus beside a line in a file, and as a part of the work."""
    found = []
    for case in interference.CASES:
        group = f"{case.crowding} a core, {case.work_ms:g} ms of work a record: CPU, µs a record above the work"
        for name in interference.LABELS:
            found.append(Figure(group, interference.LABELS[name], "interference", f"{name}_{case.name}_us", "µs"))
        line = ("interference", f"json_{case.name}_us")
        often = _at_most(1.0 if case.work_ms <= 1 else 1.5)
        found.append(Figure(group, "bus ÷ a JSON line", "interference", f"bus_{case.name}_us", over=line, goal=often))
        found.append(Figure(group, "bus, longer than without records", "interference", f"bus_{case.name}_slower"))
    return found


def _job_cost() -> list[Figure]:
    """Rate by rate: who takes what of a job."""
    found = []
    for rate in job_cost.RATES:
        group = f"{rate:,} jobs a second of {job_cost.PROCESSES} processes: CPU, µs a job"
        for name, label in (("bus", "bus"), ("bus-0", "bus, linger_ms=0")):
            for part in (*job_cost.PARTS, "producer", "all"):
                goal = _at_most(5) if name == "bus" and rate == 10_000 and part in ("producer", "writer") else None
                found.append(Figure(group, f"{label}: {part}", "job-cost", f"{name}_{rate}_{part}_us", "µs", goal=goal))
    group = "of a core, percent"
    label = "sender threads and writer, 1,000 jobs a second"
    found.append(Figure(group, label, "job-cost", "background_percent", goal=_at_most(3)))
    found.append(Figure(group, "the same, linger_ms=0", "job-cost", "background_percent_0"))
    found.append(Figure(group, "idle writer, idle producers", "job-cost", "idle_percent", goal=_at_most(0.1)))
    return found


def _stage(label: str, key: str) -> Figure:
    return Figure("each step by itself, CPU µs of a row", label, "stages", key, "µs")


FIGURES: tuple[Figure, ...] = (
    *_rates(
        "bus",
        "bus-one",
        "bus-100",
        "bus-callable",
        "bus-byline",
        "bus-normal",
        "bus-blocking",
        "executemany",
        "executemany-byline",
        "limit",
        "direct",
        "direct-100",
        "connection-per-job",
        "queue",
        "sqlite_rx",
        "peewee",
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
    Figure(
        RATIOS, "bus, 64 ÷ 4 producers", "scale", "rows_per_s_64", over=("scale", "rows_per_s_4"), goal=_at_least(0.85)
    ),
    *(
        Figure("producers", f"rows per second, {count} producer{'s' * (count > 1)}", "scale", f"rows_per_s_{count}")
        for count in through_bus.SCALE
    ),
    _cost("execute, calling thread", "bus", "calling_cpu_us", _at_most(1.5)),
    _cost("row, whole producer", "bus", "process_cpu_us", _at_most(2.5)),
    _cost("row, writer", "bus", "writer_cpu_us"),
    _cost("callable of two statements, calling thread", "bus-callable", "calling_cpu_us", _at_most(5)),
    _cost("execute, calling thread, one producer", "bus-one", "calling_cpu_us", _at_most(1.5)),
    _cost("row, whole producer, one producer", "bus-one", "process_cpu_us", _at_most(2.5)),
    _cost("callable, calling thread, one producer", "bus-callable-one", "calling_cpu_us", _at_most(5)),
    _time("slowest execute through the bus", "bus-worst", "worst_ms", _at_most(20)),
    _time("slowest transaction of a direct writer", "direct", "worst_ms"),
    _time("until visible, 10,000 jobs a second, p50", "latency", "p50_ms"),
    _time("until visible, 10,000 jobs a second, p99", "latency", "p99_ms", _at_most(DEFAULT_LINGER_MS + 50)),
    Figure("time, ms", "jobs a second meanwhile", "latency", "jobs_per_s"),
    _time("until visible, one at a time, p50", "latency-idle", "p50_ms"),
    _time("until visible, one at a time, p99", "latency-idle", "p99_ms"),
    _time("until flush returns, one at a time, p50", "latency-idle", "acknowledged_ms", _at_most(2)),
    _time("until flush returns, alone, p50", "fairness-alone", "p50_ms"),
    _time("until flush returns, alone, p99", "fairness-alone", "p99_ms"),
    _time("until flush returns, beside six noisy producers, p50", "fairness", "p50_ms"),
    _time("until flush returns, beside six noisy producers, p99", "fairness", "p99_ms", _at_most(100)),
    _time("- floor: another process syncs a page and answers, p99", "fairness", "floor_p99_ms"),
    Figure("time, ms", "rows a second meanwhile", "fairness", "rows_per_s"),
    _time("import telemetry_bus", "import", "import_ms", _at_most(30)),
    _time("CPU of that", "import", "import_cpu_ms"),
    _time("CPU of import producers.extraction and a record", "import-producers", "cpu_ms", _at_most(70)),
    _time("first execute without a writer", "cold-start", "submit_ms", _at_most(5)),
    _time("until its row is visible", "cold-start", "visible_ms", _at_most(400)),
    Figure("recovery", "jobs per second, of an orphaned journal", "recovery", "jobs_per_s", goal=_at_least(300_000)),
    _memory("writer at most, 16 producers", "memory", "writer_peak_mb", _at_most(120)),
    _memory("writer at most, the same on a slow disk", "memory-slow-disk", "writer_peak_mb", _at_most(120)),
    _memory("writer at most, recovery", "recovery", "writer_peak_mb", _at_most(120)),
    _memory("writer at most, database locked for a minute", "memory-locked", "writer_peak_mb", _at_most(150)),
    Figure("memory, MB", "- jobs sent again meanwhile", "memory-locked", "resent", goal=_at_most(0)),
    _memory("writer at most, jobs of 8 MB", "memory-large", "writer_peak_mb", _at_most(150)),
    _memory("- a producer of them", "memory-large", "producer_peak_mb"),
    _memory("writer at most, 1,100 statements of 292 KiB", "memory-texts", "writer_peak_mb", _at_most(150)),
    _memory("- their producer", "memory-texts", "producer_peak_mb"),
    _memory("producer without journal, above Python", "memory-producer", "above_python_mb", _at_most(15)),
    _memory(
        "import producers.extraction and a record, above Python", "import-producers", "above_python_mb", _at_most(20)
    ),
    _memory("a report over a million extractions", "reports", "peak_mb"),
    _memory("pages of its journal", "memory-producer", "journal_mb"),
    _report("publishers", "publishers_s", _at_most(1)),
    _report("publishers, the last 7 days", "publishers_week_s", _at_most(1)),
    _report("methods", "methods_s", _at_most(1)),
    _report("fields", "fields_s", _at_most(1)),
    *_interference(),
    *_job_cost(),
    _stage("execute, all of it", "execute"),
    _stage("- check and encode", "encode"),
    _stage("  floor: msgpack's packer", "encode_floor"),
    _stage("- journal: seal, copy, publish", "journal"),
    _stage("  of which seal", "seal"),
    _stage("  floor: crc32", "seal_floor"),
    _stage("  floor: copy", "copy_floor"),
    _stage("cut and frame a message", "cut"),
    _stage("send and receive it", "network"),
    _stage("check it", "decode"),
    _stage("unpack it, and its place in the stream", "unpack"),
    _stage("  floor: msgpack's unpackb", "unpack_floor"),
    _stage("apply, all of it", "apply"),
    _stage("- group and insert", "insert"),
    _stage("  floor: the same statements, values in line", "insert_floor"),
    _stage("- commit", "commit"),
    _stage("acknowledge", "acknowledge"),
)
