"""Draws the results with missing, shuffled or corrupted sensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from stages.lib.plots import panels
from stages.lib.plots.accuracy import Bounds
from stages.lib.plots.style import colors


def sensor_use(
    lost: dict[str, dict[str, tuple[float, Bounds]]], names: list[str], confidence: float
) -> Figure:
    """Balanced accuracy that each fusion loses in each case, in percentage points.

    Args:
        lost: by case (such as "without RGB") and fusion: the mean loss and its interval.
        names: all models, in order.
        confidence: level of the intervals.
    """
    cases = list(lost)
    fusions = list(next(iter(lost.values())))
    palette = colors(names)
    figure, axes = panels.grid(len(cases), 4, 0.34 * len(fusions) + 0.9, sharex=True, sharey=True)
    places = np.arange(len(fusions))[::-1]
    for axis, case in zip(axes, cases, strict=True):
        for place, name in zip(places, fusions, strict=True):
            mean, (low, high) = lost[case][name]
            axis.barh(place, 100 * mean, color=palette[name], alpha=0.6, height=0.65)
            if low is not None and high is not None:
                axis.plot([100 * low, 100 * high], [place, place], color="black", linewidth=1.2)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(case)
        axis.set_ylim(-0.6, len(fusions) - 0.4)
        axis.set_yticks(places, fusions)
        axis.tick_params(axis="y", length=0)
    label = f"points of balanced accuracy lost (line: {confidence:.0%} interval over seeds)"
    figure.supxlabel(label, fontsize=9)
    return figure


@dataclass(frozen=True)
class FailurePoints:
    """Balanced accuracy of a model at each failure rate, with the bounds of its interval."""

    rates: list[float]
    accuracies: list[float]
    low: list[float | None]
    high: list[float | None]


def failure_curves(
    curves: dict[str, dict[str, FailurePoints]],
    trained: dict[str, float],
    names: list[str],
    chance: float,
    confidence: float,
) -> Figure:
    """Balanced accuracy over the share of samples on which a sensor fails; one panel for each case.

    Args:
        curves: by case (such as "RGB fails") and model.
        trained: by case, the share on which it failed in training; higher rates are shaded.
        names: all models, in order.
        confidence: level of the intervals.
    """
    palette, markers = colors(names), panels.markers(names)
    figure, axes = panels.grid(len(curves), 3, 3.0, sharex=True, sharey=True)
    for axis, (case, by_model) in zip(axes, curves.items(), strict=True):
        if trained[case] > 0:
            axis.axvspan(100 * trained[case], 105, color="0.93", linewidth=0, zorder=0)
        for place, (name, points) in enumerate(by_model.items()):
            # Side by side, so that intervals do not hide each other.
            shift = 1.1 * (place - (len(by_model) - 1) / 2) / max(1, len(by_model) / 6)
            at = 100 * np.array(points.rates) + shift
            axis.plot(
                at,
                points.accuracies,
                color=palette[name],
                marker=markers[name],
                markersize=3.5,
                linewidth=1.2,
                label=name,
            )
            for x, low, high in zip(at, points.low, points.high, strict=True):
                if low is not None and high is not None:
                    axis.plot([x, x], [low, high], color=palette[name], linewidth=0.8, alpha=0.7)
        axis.axhline(chance, color="black", linewidth=0.8, linestyle="--")
        axis.set_title(case)
    axes[0].set_xticks([0, 25, 50, 75, 100])
    axes[0].set_xlim(-5, 105)
    axes[0].yaxis.set_major_locator(MultipleLocator(0.1))
    figure.supylabel("balanced accuracy", fontsize=9)
    shaded = "; grey: beyond the rate in training" if any(trained.values()) else ""
    label = f"% of samples on which it fails (lines: {confidence:.0%} intervals; dashed: class prior{shaded})"
    figure.supxlabel(label, fontsize=9)
    panels.legend_above(figure, axes[0])
    return figure


def corruption_curves(
    curves: dict[str, dict[str, tuple[list[int], list[float]]]], names: list[str], chance: float
) -> Figure:
    """Balanced accuracy over the severity; one panel for each corruption.

    Args:
        curves: by corruption and model: severities, starting at 0, and accuracies.
        names: all models, in order.
    """
    palette, markers = colors(names), panels.markers(names)
    figure, axes = panels.grid(len(curves), 4, 1.8, sharex=True, sharey=True)
    seen = {}
    for axis, (title, by_model) in zip(axes, curves.items(), strict=True):
        for name, (severities, accuracies) in by_model.items():
            (seen[name],) = axis.plot(
                severities,
                accuracies,
                color=palette[name],
                marker=markers[name],
                markersize=3.5,
                linewidth=1.2,
            )
        axis.axhline(chance, color="black", linewidth=0.8, linestyle="--")
        axis.set_title(title)
    figure.supylabel("balanced accuracy", fontsize=9)
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].yaxis.set_major_locator(MultipleLocator(0.1))
    figure.supxlabel("severity (0: as recorded); dashed: class prior", fontsize=9)
    shown = [name for name in names if name in seen]
    columns = panels.legend_columns(shown)
    figure.legend([seen[name] for name in shown], shown, loc="outside upper center", ncols=columns)
    return figure
