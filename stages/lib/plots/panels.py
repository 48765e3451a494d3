"""Helps to draw figures of several panels: grid, markers, legend."""

from __future__ import annotations

import itertools
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from stages.lib.plots.style import plt

_MARKERS = (
    "osD^vPX"  # their number differs from that of the colours, so pairs of colour and marker repeat late
)


def markers(names: list[str]) -> dict[str, str]:
    return dict(zip(names, itertools.cycle(_MARKERS), strict=False))


def grid(count: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """`count` panels in rows of `columns`; `height` of a row in inches."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(8.4, height * rows + 0.4), squeeze=False, **options)
    for place in range(count, axes.size):
        axes.flat[place].set_visible(False)
        if place >= columns:  # the panel above is the lowest of its column
            axes.flat[place - columns].tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def legend_above(figure: Figure, axis: Axes) -> Legend:
    """One legend for all panels, with the entries of one of them."""
    handles, labels = axis.get_legend_handles_labels()
    return figure.legend(handles, labels, loc="outside upper center", ncols=legend_columns(labels))


def legend_columns(labels: list[str]) -> int:
    """Number of columns that fit into the figure's width."""
    width_in = 0.5 + 0.065 * max(map(len, labels))
    return min(len(labels), int(8.2 / width_in))


def points(value: float) -> str:
    """Percentage points with their sign, a true minus; a value that rounds to zero has no sign."""
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}") if abs(value) >= 0.05 else "0.0"
