"""What figures of several panels share: their grid, their markers, their legend."""

from __future__ import annotations

import itertools
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from stages.lib.plots.style import plt

_MARKERS = "osD^vPX"  # beside the colours, of which there is another number: pairs repeat late


def markers(names: list[str]) -> dict[str, str]:
    return dict(zip(names, itertools.cycle(_MARKERS), strict=False))


def grid(count: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """As many panels as wanted, in rows."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(8.4, height * rows + 0.4), squeeze=False, **options)
    for place in range(count, axes.size):
        axes.flat[place].set_visible(False)
        if place >= columns:  # the panel above is the lowest of its column
            axes.flat[place - columns].tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def legend_above(figure: Figure, axis: Axes) -> Legend:
    """One legend for all panels, from one of them."""
    handles, labels = axis.get_legend_handles_labels()
    return figure.legend(handles, labels, loc="outside upper center", ncols=legend_columns(labels))


def legend_columns(labels: list[str]) -> int:
    """As many as the figure's width has room for."""
    width_in = 0.5 + 0.065 * max(map(len, labels))
    return min(len(labels), int(8.2 / width_in))


def points(value: float) -> str:
    """With its sign; zero has none, whatever it was rounded from."""
    return f"{value:+.1f}" if abs(value) >= 0.05 else "0.0"
