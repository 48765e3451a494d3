"""Draws the models' accuracy by condition, such as the weather."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from stages.lib.plots import panels
from stages.lib.plots.accuracy import Bounds
from stages.lib.plots.style import colors, plain


@dataclass(frozen=True)
class ConditionPoints:
    """The models on the groups with one value of a condition."""

    value: str
    num_groups: int
    accuracies: dict[str, tuple[float, Bounds]]  # mean and interval by model


def by_condition(
    conditions: dict[str, list[ConditionPoints]],
    shown: list[str],
    names: list[str],
    chance: float,
    confidence: float,
) -> Figure:
    """Balanced accuracy of each model for each value of each condition; a panel for each condition.

    Args:
        shown: the models to draw.
        names: all models, in order.
        chance: value of a model that has learned nothing.
        confidence: level of the intervals.
    """
    palette, markers = colors(names), panels.markers(names)
    most = max(map(len, conditions.values()))
    row_height = 0.075 * len(shown) + 0.12  # in inches
    figure, axes = panels.grid(len(conditions), 3, row_height * most + 0.5, sharex=True)
    step = 0.8 / max(1, len(shown) - 1)
    looks: dict[str, dict[str, Any]] = {
        name: {
            "linestyle": "",
            "marker": markers[name],
            "color": palette[name],
            "markersize": 3.5,
            "markeredgecolor": "black",
            "markeredgewidth": 0.4,
        }
        for name in shown
    }
    for name in shown:  # for the legend, since a value may lack all points
        axes[0].plot([], [], label=name, **looks[name])
    for axis, (condition, values) in zip(axes, conditions.items(), strict=True):
        for row, points in enumerate(values):
            if row % 2:
                axis.axhspan(row - 0.5, row + 0.5, color="0.96", linewidth=0, zorder=0)
            for place, name in enumerate(shown):
                if name not in points.accuracies:
                    continue
                mean, (low, high) = points.accuracies[name]
                at = row + step * place - 0.4 * (len(shown) > 1)
                if low is not None and high is not None:
                    axis.hlines(at, low, high, color=palette[name], linewidth=1.4, alpha=0.5)
                axis.plot(mean, at, **looks[name])
        axis.axvline(chance, color="black", linestyle="--", linewidth=0.8)
        labels = [f"{plain(points.value)}\n({points.num_groups:,})" for points in values]
        axis.set_yticks(range(len(values)), labels, fontsize=8)
        axis.set_ylim(most - 0.4, -0.6)
        axis.set_title(plain(condition))
        axis.grid(axis="x", color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
    label = f"balanced accuracy (lines: {confidence:.0%} intervals; dashed: class prior; in brackets: groups)"
    figure.supxlabel(label, fontsize=9)
    panels.legend_above(figure, axes[0])
    return figure
