"""What `top` draws: the lines of one picture, that fit a terminal of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ...errors import printable
from ..output import STATE_STYLES, STREAM_DIGITS, nouns, size
from ..status import gone
from ..survey import COUNTED_BYTES
from .rates import ASCII, BLOCKS, KEPT, Course, Rate, Report, most_urgent_first, sparkline

#: Below so many lines the picture does without what can be done without.
_ROOMY = 16
_NAME_WIDTH, _FIGURE_WIDTH = 9, 12
#: What stands beside a sparkline of the writer, at most.
_BESIDE_WIDTH = 28
#: A shorter sparkline tells nothing.
_LEAST_SPARKLINE = 5
_GAP = "  "
_NOBODY = {"absent": "no writer runs", "missing": "there is no such database"}


def picture(sample: Report, course: Course, console: Console) -> list[Text]:
    """At most as many lines as the console has, none wider than it. What is wrong comes before what is usual."""
    width, height = console.size
    modern = console.encoding.startswith("utf")
    ramp = BLOCKS if modern else ASCII
    roomy = height >= _ROOMY
    lines = [*_head(sample, width), *_complaints(sample, console, max(1, height // 2 - 2))]
    blank = [Text()] if roomy else []
    lines += [*blank, *_gauges(sample, course, width, ramp, roomy=roomy), *_facts(sample, console)]
    if sample["streams"]:
        lines += blank
        lines += _streams(sample["streams"], course, width, height - len(lines), ramp)
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
        if not modern:
            line.plain = line.plain.replace("…", "~").encode(console.encoding, "replace").decode(console.encoding)
    return lines[:height]


def _head(sample: Report, width: int) -> list[Text]:
    state, time = sample["state"], f"{sample['time'][11:]} UTC"
    line = Text.assemble((state, STATE_STYLES[state]), _GAP)
    line.append(_end_of(printable(sample["database"]), width - line.cell_len - len(time) - len(_GAP)), "bold")
    _to_the_right(line, time, width)
    if sample["epoch"] is not None:
        uptime = timedelta(seconds=int(sample["uptime_s"]))
        writer = f"process {sample['pid']}, up {uptime}, version {sample['version']}, epoch {sample['epoch']}"
    elif sample["pid"] is not None:
        writer = f"process {sample['pid']}"
    else:
        writer = _NOBODY.get(sample["state"], "the writer is not known")
    below = Text(printable(writer))
    _to_the_right(below, "q ends", width)
    return [line, below]


def _complaints(sample: Report, console: Console, most: int) -> list[Text]:
    """What is wrong, in full as long as that leaves room for the rest."""
    lines: list[Text] = []
    if loss := gone(sample):
        lines += _wrapped(f"jobs gone: {loss}", "bold red", console)
    if sample["last_error"]:
        style = "bold red" if sample["state"] == "degraded" else "yellow"
        lines += _wrapped(f"last error: {sample['last_error']}", style, console)
    for drift in sample["drift"]:
        lines += _wrapped(f"drift: {drift}", "yellow", console)
    if len(lines) > most:
        lines = lines[:most]
        lines[-1].append(" …")
    return lines


def _gauges(sample: Report, course: Course, width: int, ramp: str, *, roomy: bool) -> list[Text]:
    """A line for each rate of the writer: what it is, how it went, what it has come to."""
    rates, jobs, streams = sample["rates"], sample["pending_jobs"], len(sample["streams"])
    reckoned = any(map(_is_reckoned, sample["streams"]))
    gauges = [
        ("jobs", _per_second(rates["jobs_per_s"]), "jobs_per_s", _total(sample["jobs_committed"], "committed")),
        ("rows", _per_second(rates["rows_per_s"]), "rows_per_s", _total(sample["rows_committed"], "committed")),
        ("batches", _per_second(rates["batches_per_s"]), "batches_per_s", _total(sample["batches"], "committed")),
        (
            "pending",
            size(sample["pending_bytes"]),
            "pending_bytes",
            f"{_jobs(jobs, reckoned)} {nouns(jobs, 'job')}, {streams:,} {nouns(streams, 'stream')}",
        ),
    ]
    room = width - _NAME_WIDTH - _FIGURE_WIDTH - 2 * len(_GAP) - _BESIDE_WIDTH
    lines = []
    for name, figure, of, beside in gauges if roomy else (gauges[0], gauges[-1]):
        line = Text.assemble((name.ljust(_NAME_WIDTH), "bold"), figure.rjust(_FIGURE_WIDTH))
        if room >= _LEAST_SPARKLINE:
            line.append(_GAP).append(sparkline(course.of(of), min(room, KEPT), ramp), "cyan")
        lines.append(line.append(_GAP).append(beside))
    return lines


def _facts(sample: Report, console: Console) -> list[Text]:
    letters, latency = sample["dead_letters"], sample["commit_ms"]
    facts = [("dead letters " + ("unknown" if letters is None else f"{letters:,}"), "" if letters == 0 else "yellow")]
    if sample["batches"]:
        facts.insert(0, (f"commit {latency['p50']:.1f} ms (p50), {latency['p99']:.1f} ms (p99)", ""))
    if sample["jobs_dropped"]:
        facts.append((f"{sample['jobs_dropped']:,} {nouns(sample['jobs_dropped'], 'job')} dropped", "yellow"))
    facts.append((f"log {size(sample['wal_bytes'])} (WAL)", ""))
    for key, what in (("duplicates_dropped", "duplicates dropped"), ("resends_requested", "resends requested")):
        if sample[key]:
            facts.append((f"{sample[key]:,} {what}", ""))
    lines = [Text()]
    for text, style in facts:
        if lines[-1] and lines[-1].cell_len + len(_GAP) + len(text) > console.width:
            lines.append(Text())
        lines[-1].append(_GAP if lines[-1] else "").append(text, style)
    return lines


@dataclass(frozen=True)
class _Column:
    title: str
    width: int
    cell: Callable[[Report], str]
    #: What a narrow terminal does without first has the highest number.
    spare: int = 0
    left: bool = False


_COLUMNS = (
    _Column("stream", STREAM_DIGITS, lambda stream: stream["stream"][:STREAM_DIGITS], left=True),
    _Column("process", 7, lambda stream: str(stream["pid"]), spare=1),
    _Column("alive", 5, lambda stream: "yes" if stream["alive"] else "no", spare=3, left=True),
    _Column("pending jobs", 12, lambda stream: _jobs(stream["pending_jobs"], _is_reckoned(stream)), spare=2),
    _Column("pending bytes", 13, lambda stream: size(stream["pending_bytes"])),
    _Column("jobs/s", 9, lambda stream: _figure(stream["jobs_per_s"])),
)


def _streams(streams: Sequence[Report], course: Course, width: int, height: int, ramp: str) -> list[Text]:
    """The table of streams, as many as `height` lines can have."""
    columns = list(_COLUMNS)
    while _width(columns) > width and any(column.spare for column in columns):
        columns.remove(max(columns, key=lambda column: column.spare))
    room = min(width - _width(columns) - len(_GAP), KEPT)
    lines = [Text(_row([column.title for column in columns], columns).ljust(width), "reverse")]
    shown = len(streams) if len(streams) < height else max(0, height - 2)
    for stream in most_urgent_first(streams)[:shown]:
        line = Text(_row([column.cell(stream) for column in columns], columns), "" if stream["alive"] else "yellow")
        if room >= _LEAST_SPARKLINE:
            line.append(_GAP).append(sparkline(course.of_stream(stream["stream"]), room, ramp), "cyan")
        lines.append(line)
    if shown < len(streams):
        lines.append(Text(f"… {len(streams) - shown:,} more"))
    return lines


def _width(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)


def _row(cells: Sequence[str], columns: Sequence[_Column]) -> str:
    return _GAP.join(
        cell.ljust(column.width) if column.left else cell.rjust(column.width)
        for cell, column in zip(cells, columns, strict=True)
    )


def _is_reckoned(stream: Report) -> bool:
    return bool(stream["pending_bytes"] > COUNTED_BYTES)


def _jobs(count: int, reckoned: bool) -> str:
    """What is reckoned has no more digits than can be trusted."""
    return f"~{round(count, 3 - len(str(count))):,}" if reckoned else f"{count:,}"


def _figure(rate: Rate) -> str:
    if rate is None:
        return "-"
    return f"{rate:.1f}" if 0 < rate < 10 else f"{rate:,.0f}"


def _per_second(rate: Rate) -> str:
    return f"{_figure(rate)}/s"


def _total(count: int | None, what: str) -> str:
    return "" if count is None else f"{count:,} {what}"


def _wrapped(text: str, style: str, console: Console) -> list[Text]:
    return list(Text(printable(text), style).wrap(console, console.width))


def _end_of(text: str, width: int) -> str:
    """The end of a path tells more than its beginning."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) >= width:
        text = text[1:]
    return f"…{text}" if width > 0 else ""


def _to_the_right(line: Text, text: str, width: int) -> None:
    if (room := width - line.cell_len - len(text)) >= len(_GAP):
        line.append(" " * room).append(text, "dim")
