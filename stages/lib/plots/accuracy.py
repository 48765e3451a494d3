"""Draws figures of accuracy: intervals of a metric, differences between models, confusion matrices.

S = seeds;  L = classes
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from stages.lib.plots import panels
from stages.lib.plots.style import colors, plain, plt

Bounds = tuple[float | None, float | None]  # of an interval; None if there is none


def metric_intervals(
    values: dict[str, Float[np.ndarray, "S"]],
    intervals: dict[str, Bounds],
    chance: float,
    label: str,
    confidence: float,
) -> Figure:
    """Mean, interval and all seeds' values of each model, the highest mean first.

    The axis starts at chance where this leaves most of its length to the models; else the title says what chance is.

    Args:
        values: by model, one value per seed.
        intervals: by model, the bounds of the mean's interval.
        chance: value of a model that has learned nothing.
        label: of the axis.
        confidence: level of the intervals.
    """
    palette = colors(list(values))
    names = sorted(values, key=lambda name: -values[name].mean())
    figure, axis = plt.subplots(figsize=(6.8, (0.42 if len(names) <= 10 else 0.3) * len(names) + 1.1))
    places = np.arange(len(names))[::-1]
    means = np.array([values[name].mean() for name in names])
    lowest = min(value.min() for value in values.values())
    lowest = min([lowest, *(low for low, _ in intervals.values() if low is not None)])
    highest = 1.0
    is_chance_shown = lowest - chance < (highest - chance) / 2
    left = min(lowest, chance) if is_chance_shown else lowest
    margin = 0.04 * (highest - left)
    for place, name, mean in zip(places, names, means, strict=True):
        low, high = intervals[name]
        if low is not None and high is not None:
            axis.hlines(place, low, high, color=palette[name], linewidth=5, alpha=0.45)
        axis.scatter(values[name], np.full(len(values[name]), place - 0.26), s=5, color="0.35", zorder=3)
        axis.plot(mean, place, "o", color=palette[name], markersize=6, markeredgecolor="black", zorder=4)
        axis.text(1.01, place, f"{mean:.3f}", transform=axis.get_yaxis_transform(), va="center")
    if is_chance_shown:
        axis.axvline(chance, color="black", linestyle="--", linewidth=0.8)
    axis.set_yticks(places, names)
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_xlim(left - margin, highest + margin / 2)  # so that a point at 1 is not cut
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.set_xlabel(label)
    prior = "dashed: class prior" if is_chance_shown else f"class prior: {chance:.3f}"
    axis.set_title(
        f"circle: mean; band: {confidence:.0%} interval over seeds and scenes; dots: seeds; {prior}",
        fontweight="normal",
        loc="left",
    )
    axis.tick_params(axis="y", length=0)
    return figure


def difference_matrix(
    names: list[str], differences: dict[tuple[str, str], float], intervals: dict[tuple[str, str], Bounds]
) -> Figure:
    """Balanced accuracy of each model (row) minus that of each other model (column), in percentage points.

    Args:
        differences, intervals: one for each pair.
    """
    values = np.full((len(names), len(names)), np.nan)
    for (row, column), difference in differences.items():
        values[names.index(row), names.index(column)] = 100 * difference
        values[names.index(column), names.index(row)] = -100 * difference
    has_room = len(names) <= 10  # for intervals
    width, height = (0.95, 0.62) if has_room else (0.46, 0.34)
    figure, axis = plt.subplots(figsize=(width * len(names) + 1.4, height * len(names) + 1.0))
    reach = max(1.0, float(np.nanmax(np.abs(values), initial=0)))
    axis.imshow(values, cmap="PuOr", vmin=-reach, vmax=reach, aspect="auto")
    for (row, column), (low, high) in intervals.items():
        i, j = names.index(row), names.index(column)
        for place, sign in (((j, i), 1), ((i, j), -1)):
            bounds = sorted(100 * sign * bound for bound in (low, high) if bound is not None)
            value = values[place[1], place[0]]
            text = panels.points(value)
            if bounds and has_room:
                text += f"\n{panels.points(bounds[0])} to {panels.points(bounds[1])}"
            color = "white" if abs(value) > 0.6 * reach else "black"
            axis.text(*place, text, ha="center", va="center", fontsize=7, color=color)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_title(
        "balanced accuracy, row minus column, percentage points (exploratory)",
        fontweight="normal",
        loc="left",
    )
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def confusions(matrices: dict[str, Float[np.ndarray, "L L"]], classes: list[str]) -> Figure:
    """Share of each true class (row) that is predicted as each class (column); one panel for each model."""
    columns = 3 if len(matrices) % 3 == 0 else 4  # leaves fewer panels empty
    figure, axes = panels.grid(len(matrices), columns, 2.1, sharex=True, sharey=True)
    for axis, (name, matrix) in zip(axes, matrices.items(), strict=True):
        axis.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
        if len(classes) <= 6:
            for (i, j), share in np.ndenumerate(matrix):
                color = "white" if share > 0.6 else "black"
                axis.text(
                    j,
                    i,
                    "-" if np.isnan(share) else f"{share:.2f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=color,
                )
        axis.set_title(name)
        if len(classes) <= 20:
            names = [plain(name) for name in classes]
            axis.set_xticks(range(len(classes)), names, rotation=30, ha="right", fontsize=7)
            axis.set_yticks(range(len(classes)), names, fontsize=7)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    figure.supxlabel("predicted class", fontsize=9)
    figure.supylabel("true class", fontsize=9)
    return figure
