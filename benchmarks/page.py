"""Writes the figures of a run into the pages: `python -m benchmarks.page FILE.json PAGE.md…`.

A page has blocks that begin with `<!-- bench: NAME -->` and end with `<!-- end -->`; what stands between is replaced.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from telemetry_bus.config import DEFAULT_LINGER_MS

from .interference import CASES, LABELS, Case
from .job_cost import RATES
from .table import number

_BLOCK = re.compile(r"(<!-- bench: ([a-z-]+) -->\n).*?(<!-- end -->)", re.S)
#: With so much before the run the figures are of a machine that others have.
BUSY_LOAD = 2.0
#: CPU that recording may take, in percent of the work's own, by ms of work.
PART_GOALS = {0.2: 5.0, 1: 2.0, 5: 1.0}


class Run:
    """What the rounds of one run have found."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.about: Mapping[str, str] = document["about"]
        self._rounds = document["rounds"]

    def value(self, measure: str, key: str) -> float:
        """The median. Raises `SystemExit` when the run has not measured it."""
        values = [round[measure][key] for round in self._rounds if key in round.get(measure, {})]
        if not values:
            raise SystemExit(f"the run has no {key} of {measure}")
        return float(median(values))

    def ratio(self, measure: str, key: str, over: str, over_key: str) -> float:
        """The median of each round's ratio."""
        return float(median(r[measure][key] / r[over][over_key] for r in self._rounds if measure in r and over in r))

    def beside(self, case: Case, name: str) -> float:
        """µs a record above the work."""
        return self.value("interference", f"{name}_{case.name}_us")


def main(arguments: Sequence[str]) -> int:
    run = Run(json.loads(Path(arguments[0]).read_text()))
    for page in map(Path, arguments[1:]):
        page.write_text(filled(page.read_text(), run))
    return 0


def filled(text: str, run: Run) -> str:
    """The page with each of its blocks written again. Raises `KeyError` for a block of no such name."""
    return _BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]](run)}\n{found[3]}", text)


def about(run: Run) -> str:
    known = run.about
    loads = f"load {known['load before']} before, {known['load after']} after"
    busy = "\nOther programs took most of it: a quiet machine has more records in each interval, and warmer caches."
    return f"{known['processor']}; {known['system']}; {known['run']}; {loads}. Medians.{busy * _busy(run)}"


def _busy(run: Run) -> bool:
    """A load that has gone by the end of the run is of what had ended when it began."""
    return min(float(run.about["load before"]), float(run.about["load after"])) >= BUSY_LOAD


def interference(run: Run) -> str:
    names = [*LABELS]
    rows = [[_case(case), *(number(run.beside(case, name)) for name in names)] for case in CASES]
    return _table(["processes for each core, work", *LABELS.values()], rows)


def job_cost(run: Run) -> str:
    """A drawing: who has what of a job, at which rate."""
    head = [
        "   jobs/s    submitting     sender's   ZeroMQ's      writer,    a job,    before:",
        "   of four   threads        threads    threads       all of it  all       linger 0",
        "   ────────  ─────────────  ─────────  ────────      ─────────  ────────  ────────",
    ]
    lines = []
    for rate in RATES:
        own = {part: run.value("job-cost", f"bus_{rate}_{part}_us") for part in ("submitting", "sending", "zeromq")}
        writer, whole, before = (run.value("job-cost", f"{name}_us") for name in _of(rate))
        lines.append(
            f"   {rate:>6,}    {number(own['submitting']):>6} ──────▶ {number(own['sending']):>6} ──▶"
            f" {number(own['zeromq']):>6} ──────▶ {number(writer):>6}    {number(whole):>6}    {number(before):>6}"
        )
    return "\n".join(["```", *head, *lines, "```"])


def _of(rate: int) -> tuple[str, str, str]:
    return f"bus_{rate}_writer", f"bus_{rate}_all", f"bus-0_{rate}_all"


def goals(run: Run) -> str:
    rows = []
    for case in CASES:
        line, bus, before = (run.beside(case, name) for name in ("json", "bus", "bus-0"))
        often = 1.0 if case.work_ms <= 1 else 1.5
        rows.append(_row(f"bus ÷ a JSON line, {_case(case)}", before / line, bus / line, often))
    for case in CASES:
        if case.work_ms in PART_GOALS:
            before, bus = (run.beside(case, name) / case.work_ms / 10 for name in ("bus-0", "bus"))
            rows.append(_row(f"part of the work's CPU, %, {_case(case)}", before, bus, PART_GOALS[case.work_ms]))
    before, bus = (run.value("job-cost", name) for name in ("background_percent_0", "background_percent"))
    rows.append(_row("sender threads and writer, 1,000 records a second of four, % of a core", before, bus, 3))
    for part, what in (("producer", "whole producer"), ("writer", "writer")):
        before, bus = (run.value("job-cost", f"{name}_10000_{part}_us") for name in ("bus-0", "bus"))
        rows.append(_row(f"row, {what}, 10,000 jobs a second, CPU µs", before, bus, 5))
    idle = run.value("job-cost", "idle_percent")
    rows.append(_row("idle writer with four idle producers, % of a core", None, idle, 0.1))
    visible = run.value("latency", "p99_ms")
    rows.append(_row("visible, 10,000 jobs a second, p99, ms", None, visible, DEFAULT_LINGER_MS + 50))
    rows.append(_row("`flush` after one job, p50, ms", None, run.value("latency-idle", "acknowledged_ms"), 2))
    rows.append(_row("`execute`, calling thread, CPU µs", None, run.value("bus", "calling_cpu_us"), 1.5))
    rows.append(_row("slowest `execute`, ms", None, run.value("bus-worst", "worst_ms"), 20))
    scale = run.ratio("scale", "rows_per_s_64", "scale", "rows_per_s_4")
    rows.append(_row("rows a second, 64 ÷ 4 producers", None, scale, 0.85, at_least=True))
    alone = run.ratio("bus", "rows_per_s", "executemany", "rows_per_s")
    rows.append(_row("rows a second, four producers ÷ executemany", None, alone, 1.0, at_least=True))
    return _table(["what", "linger 0 (before)", f"linger {DEFAULT_LINGER_MS}", "goal", ""], rows)


def cost(run: Run) -> str:
    """What the README says."""
    case = next(case for case in CASES if case == Case(1, 1))
    bus, line = run.beside(case, "bus"), run.beside(case, "json")
    direct = run.beside(case, "sqlite-full")
    where = " (on a machine that is busy with others)" * _busy(run)
    return (
        f"Beside work of 1 ms a record takes {number(bus)} µs of CPU, the writer's too; a JSON line in a file takes\n"
        f"{number(line)}, and a commit of its own {number(direct)}{where}."
    )


BLOCKS: dict[str, Callable[[Run], str]] = {
    "about": about,
    "cost": cost,
    "goals": goals,
    "interference": interference,
    "job-cost": job_cost,
}


def _case(case: Case) -> str:
    return f"{case.crowding}, {case.work_ms:g} ms"


def _row(what: str, before: float | None, now: float, goal: float, *, at_least: bool = False) -> list[str]:
    met = now >= goal if at_least else now <= goal
    first = "" if before is None else number(before)
    return [what, first, number(now), f"{'≥' if at_least else '≤'} {goal:g}", "met" if met else "missed"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
