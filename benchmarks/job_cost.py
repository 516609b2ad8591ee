"""What a job costs each thread that has to do with it, at rates that people have: CPU, not the time of the clock.

Four processes submit at an even pace, and sleep between their jobs. What the pauses themselves cost is measured before,
in the same processes and at the same pace, and left out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import crowd
from .processes import cpu_by_thread
from .rows import FETCHES, each_fetch
from .setting import Figures, Measure, Setting
from .writer import begun, writing

PROCESSES = 4
#: Jobs a second of all processes together.
RATES = (40, 200, 1_000, 10_000)
LINGER_MS = {"bus": None, "bus-0": 0}
#: Of one rate, without the dry run before it; longer with more rows.
SHORTEST_S, LONGEST_S, ROWS_PER_SECOND_OF_RUN = 0.5, 4.0, 200_000
IDLE_S = 5.0
#: Threads by what they do: those of the producers, and all of the writer's.
PARTS = ("submitting", "sending", "zeromq", "writer")


def job_cost(setting: Setting) -> Figures:
    """µs of CPU a job, by rate, contender and part; and what of a core the writer takes when nothing is submitted."""
    seconds = min(LONGEST_S, max(SHORTEST_S, setting.rows / ROWS_PER_SECOND_OF_RUN))
    found: dict[str, float] = {}
    for rate in RATES:
        for name, linger_ms in LINGER_MS.items():
            cost = _run(setting.folder / f"{name}-{rate}", linger_ms, rate, seconds)
            found.update({f"{name}_{rate}_{part}_us": value for part, value in cost.items()})
    found["background_percent"] = _background(found, "bus", 1_000)
    found["background_percent_0"] = _background(found, "bus-0", 1_000)
    found["idle_percent"] = _idle(setting.folder / "idle")
    return found


def _run(folder: Path, linger_ms: int | None, rate: int, seconds: float) -> dict[str, float]:
    folder.mkdir()
    database = folder / "telemetry.db"
    with writing(database, FETCHES.ddl) as writer:
        done = crowd.run(PROCESSES, _part, database, linger_ms, PROCESSES / rate, seconds, writer.pid)
    jobs = int(sum(one["jobs"] for one in done.figures))
    FETCHES.check(database, jobs)
    cost = {part: sum(one.get(part, 0.0) for one in done.figures) / jobs * 1e6 for part in PARTS}
    producer = sum(cost[part] for part in PARTS[:-1])
    return {**cost, "producer": producer, "all": producer + cost["writer"]}


def _background(found: Figures, name: str, rate: int) -> float:
    """What of a core all threads take that the program has not begun, in percent."""
    return sum(found[f"{name}_{rate}_{part}_us"] for part in PARTS[1:]) * rate / 1e4


def _idle(folder: Path) -> float:
    """What of a core the writer takes, in percent, while no job comes."""
    never = 2 * PROCESSES * IDLE_S
    folder.mkdir()
    database = folder / "telemetry.db"
    with writing(database, FETCHES.ddl) as writer:
        done = crowd.run(PROCESSES, _part, database, None, never, IDLE_S, writer.pid)
    return done.figures[0]["writer"] / IDLE_S * 100


def _part(
    number: int, start: crowd.Start, database: Path, linger_ms: int | None, every: float, seconds: float, writer: int
) -> Figures:
    """One producer; the first one looks at the writer, too."""
    rows = each_fetch(1 << 60)
    late = every * (number + 1) / PROCESSES
    with begun(database, linger_ms=linger_ms) as store:
        start()
        dry = time.thread_time()
        _paced(lambda: next(rows), every, seconds / 2, late)
        dry = (time.thread_time() - dry) * 2
        before = [*_looks(number, writer)]
        jobs = _paced(lambda: store.execute(FETCHES.sql, next(rows)), every, seconds, late)
        cost = {part: now - then for (part, then), (_, now) in zip(before, _looks(number, writer), strict=True)}
    return {**cost, "submitting": cost["submitting"] - dry, "jobs": jobs}


def _looks(number: int, writer: int) -> Iterator[tuple[str, float]]:
    """Seconds of CPU so far, by part."""
    own = cpu_by_thread(os.getpid())
    main, zeromq = own.pop(os.getpid()).seconds, sum(one.seconds for one in own.values() if one.name.startswith("ZMQ"))
    yield "submitting", main
    yield "zeromq", zeromq
    yield "sending", sum(one.seconds for one in own.values()) - zeromq
    if number == 0:
        yield "writer", sum(one.seconds for one in cpu_by_thread(writer).values())


def _paced(record: Callable[[], object], every: float, seconds: float, late: float) -> int:
    """`record` at an even pace, the first time `late` seconds after now; how often."""
    clock, jobs = time.perf_counter, 0
    ends = clock() + seconds
    due = ends - seconds + late
    while due < ends:
        if (early := due - clock()) > 0:
            time.sleep(early)
        record()
        jobs += 1
        due += every
    if (left := ends - clock()) > 0:
        time.sleep(left)
    return jobs


MEASURES = (Measure("job-cost", "what a job costs whom, by rate", job_cost),)
