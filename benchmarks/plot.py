"""The figures as a picture, in an SVG file. Wants matplotlib, the extra `bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .catalogue import RATES, Goal, Result
from .table import number

FORMS = (".svg", ".png", ".pdf")
_INK, _PALE = "#333333", "#cccccc"
_BUS, _OTHERS, _MISSED = "#0e7490", "#8a8f98", "#c2410c"
_LINE_INCHES = 0.24


def draw(about: Mapping[str, str], results: Sequence[Result], out: Path) -> None:
    """Write the file; its suffix says in which form. Rates above, below them what has a goal."""
    # by name: neither the types nor the library need be there to check or run the rest
    matplotlib: Any = import_module("matplotlib")
    figures: Any = import_module("matplotlib.figure")
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "bench",
        "font.family": "sans-serif",
        "font.size": 8,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.edgecolor": "#999999",
        "axes.linewidth": 0.6,
    }
    rates = sorted((one for one in results if one.figure.group == RATES), key=lambda one: one.median)
    judged = [one for one in reversed(results) if one.figure.goal is not None]
    panels = [(draw, lines) for draw, lines in ((_rates, rates), (_goals, judged)) if lines]
    with matplotlib.rc_context(settings):
        heights = [len(lines) + 3 for _, lines in panels] or [3]
        figure = figures.Figure(
            figsize=(8.4, _LINE_INCHES * sum(heights) + 0.5), facecolor="white", layout="constrained"
        )
        axes = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for axis, (panel, lines) in zip(axes, panels, strict=False):
            panel(axis, lines)
            _tidy(axis, [one.figure.label for one in lines])
        figure.supxlabel(
            f"{about['processor']}; Python {about['python']}, SQLite {about['sqlite']}, "
            f"telemetry-bus {about['telemetry-bus']}; {about['run']}",
            fontsize=7,
        )
        figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=110)


def _rates(axis: Any, lines: Sequence[Result]) -> None:
    axis.set_title("rows per second, committed: median, lowest and highest round", loc="left", fontsize=9)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    for at, one in enumerate(lines):
        colour = _BUS if one.figure.measure.startswith("bus") else _OTHERS
        _point(axis, at, one.median, one.values, colour, f"{one.median:,.0f}")


def _goals(axis: Any, lines: Sequence[Result]) -> None:
    """How many times better than the goal, so that figures of every kind stand on one axis."""
    axis.set_title("beside the goals: right of the line they are met", loc="left", fontsize=9)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.axvline(1, color=_INK, linewidth=0.8)
    for at, one in enumerate(lines):
        goal = one.figure.goal
        assert goal is not None
        unit = f" {one.figure.unit}" if one.figure.unit else ""
        said = f"{number(one.median)}{unit}, goal {'≥' if goal.at_least else '≤'} {goal.value:,g}{unit}"
        values = [_times_better(goal, value) for value in one.values]
        _point(axis, at, _times_better(goal, one.median), values, _BUS if one.met else _MISSED, said)


def _times_better(goal: Goal, value: float) -> float:
    smallest = 1e-9  # a cost of nothing at all has no place on a logarithmic axis
    return value / goal.value if goal.at_least else goal.value / max(value, smallest)


def _point(axis: Any, at: int, median: float, values: Sequence[float], colour: str, said: str) -> None:
    axis.plot([min(values), max(values)], [at, at], color=colour, linewidth=1.4, solid_capstyle="round")
    axis.plot([median], [at], "o", color=colour, markersize=4.5)
    axis.annotate(
        said,
        (max(values), at),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        color=colour,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def _tidy(axis: Any, labels: Sequence[str]) -> None:
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(-0.7, len(labels) - 0.3)
    axis.margins(x=0.05)
    low, high = axis.get_xlim()
    axis.set_xlim(low, high * (high / low) ** 0.3)  # room for what stands beside the last point
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", color=_PALE, linewidth=0.5)
    axis.set_axisbelow(True)
