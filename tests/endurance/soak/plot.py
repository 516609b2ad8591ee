"""The series of a soak as small multiples, in an SVG file. Wants matplotlib, the extra `bench`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, util
from pathlib import Path
from typing import Any

from .judging import KINDS, Series

#: So many points of a line at most, that the file stays small.
MOST_POINTS = 200
_COLUMNS = 2
_INK, _FAINT = "#333333", "#f1efe8"
_COLOURS = {
    "writer": "#c2410c",
    "bus": "#333333",
    "reader": "#7c3aed",
    "producer 1": "#0e7490",
    "producer 2": "#0891b2",
    "producer 3": "#67b7c9",
}


def available() -> bool:
    """Whether matplotlib is installed."""
    return util.find_spec("matplotlib") is not None


def draw(series: Sequence[Series], quiet_from: float, until: float, out: Path) -> None:
    """Write the file; its suffix says in which form. Before `quiet_from` seconds writers are ended on purpose."""
    # by name: neither the types nor the library need be there to check or run the rest
    matplotlib: Any = import_module("matplotlib")
    figures: Any = import_module("matplotlib.figure")
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "soak",
        "font.family": "sans-serif",
        "font.size": 8,
        "axes.edgecolor": "#999999",
        "axes.linewidth": 0.6,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    with matplotlib.rc_context(settings):
        rows = -(-len(KINDS) // _COLUMNS)
        figure = figures.Figure(figsize=(8.4, 1.45 * rows + 0.5), facecolor="white", layout="constrained")
        axes = figure.subplots(rows, _COLUMNS, sharex=True).flatten()
        for axis, kind in zip(axes, KINDS.values(), strict=False):
            _panel(axis, [one for one in series if one.kind is kind], quiet_from, until)
            axis.set_title(f"{kind.name}{f', {kind.unit}' if kind.unit else ''}", loc="left", fontsize=9)
        for axis in axes[-_COLUMNS:]:
            axis.set_xlabel("minutes")
        _legend(figure, series)
        figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=110)


def _panel(axis: Any, series: Sequence[Series], quiet_from: float, until: float) -> None:
    axis.axvspan(0, quiet_from / 60, color=_FAINT, linewidth=0)
    for one in series:
        times, values = zip(*_thinned(one.points), strict=True)
        axis.plot([at / 60 for at in times], values, color=_colour(one), linewidth=1.0)
    axis.set_xlim(0, until / 60)
    axis.set_ylim(0, max([1.0, *(1.15 * value for one in series for _, value in one.points)]))
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e5e5e5", linewidth=0.5)
    axis.set_axisbelow(True)


def _legend(figure: Any, series: Sequence[Series]) -> None:
    """Each colour once. The shaded part says itself what it is."""
    lines: Any = import_module("matplotlib.lines")
    patches: Any = import_module("matplotlib.patches")
    there = {_name(one) for one in series}
    names = [name for name in _COLOURS if name in there]
    handles = [lines.Line2D([], [], color=_COLOURS[name], linewidth=2) for name in names]
    handles.append(patches.Patch(color=_FAINT))
    figure.legend(
        handles,
        ["whole bus" if name == "bus" else name for name in names] + ["writers are killed and stopped"],
        loc="outside upper center",
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        handlelength=1.2,
        columnspacing=1.2,
    )


def _colour(series: Series) -> str:
    return _COLOURS.get(_name(series), _INK)


def _name(series: Series) -> str:
    return series.of.partition(",")[0]


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Of each stretch its highest point, and the last one: thinning must not hide a peak."""
    stretch = -(-len(points) // MOST_POINTS)
    highest = [max(points[at : at + stretch], key=lambda point: point[1]) for at in range(0, len(points), stretch)]
    return highest if highest[-1] == points[-1] else [*highest, points[-1]]
