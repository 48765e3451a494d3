"""Draws balanced accuracy over the number of training groups."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from stages.lib.comparison.results import Summary
from stages.lib.plots import panels
from stages.lib.plots.style import colors, plt

_SPREAD = 0.28  # of the marks of one size, as a share of the smallest step between two sizes
_LABEL_HEIGHT = 0.19  # of a direct label, in inches


def accuracy_over_groups(
    accuracies: dict[str, list[Summary]],
    groups: list[float],
    shares: list[float],
    label: str,
    confidence: float,
) -> Figure:
    """One line for each model, with its intervals; marks of one size stand side by side, so that none is hidden.

    Args:
        accuracies: by model, one for each size.
        groups: training groups of each size; ascending.
        shares: of the training scenes, of each size.
        label: of the vertical axis.
        confidence: level of the intervals.
    """
    names = list(accuracies)
    palette, markers = colors(names), panels.markers(names)
    places = np.log2(groups)
    step = min([b - a for a, b in itertools.pairwise(places) if b > a], default=1.0)
    offsets = _SPREAD * step * np.linspace(-0.5, 0.5, len(names)) if len(names) > 1 else np.zeros(1)
    height = max(4.4, 0.25 * len(names))
    figure, axis = plt.subplots(figsize=(7.2, height))
    for name, offset in zip(names, offsets, strict=True):
        means = np.array([_defined(summary.mean) for summary in accuracies[name]])
        bounds = np.array([[_defined(s.low), _defined(s.high)] for s in accuracies[name]])
        axis.plot(places + offset, means, color=palette[name], linewidth=1.3, alpha=0.6)
        axis.vlines(
            places + offset, bounds[:, 0], bounds[:, 1], color=palette[name], linewidth=2.2, alpha=0.75
        )
        axis.plot(
            places + offset,
            means,
            linestyle="",
            marker=markers[name],
            markersize=5.5,
            color=palette[name],
            markeredgecolor="black",
            markeredgewidth=0.5,
            zorder=3,
        )
    axis.set_xlim(places[0] - 0.35 * step, places[-1] + 0.35 * step)
    axis.xaxis.set_major_locator(FixedLocator(sorted(set(places))))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    ticks = {
        place: f"{count:,.0f}\n({share:.0%} of the scenes)"
        for place, count, share in zip(places, groups, shares, strict=True)
    }
    axis.set_xticks(list(ticks), list(ticks.values()))
    axis.grid(axis="y", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_xlabel("training groups (logarithmic axis)")
    axis.set_ylabel(label)
    axis.set_title(
        f"mark: mean over seeds; bar: {confidence:.0%} interval over seeds and scenes",
        fontweight="normal",
        loc="left",
    )
    ends = np.array([_defined(accuracies[name][-1].mean) for name in names])
    low, high = axis.get_ylim()
    label_heights = spread_out((ends - low) / (high - low), _LABEL_HEIGHT / (0.82 * height))
    for name, end, label_height, offset in zip(names, ends, label_heights, offsets, strict=True):
        axis.annotate(
            f"{name.replace('_', ' ')}  {end:.3f}",
            xy=(places[-1] + offset, end),
            xytext=(1.02, label_height),
            textcoords=axis.transAxes,
            va="center",
            color=palette[name],
            fontweight="bold",
            arrowprops={"arrowstyle": "-", "color": palette[name], "linewidth": 0.6, "alpha": 0.7},
        )
    axis.set_ylim(low, high)
    return figure


def _defined(value: float | None) -> float:
    return np.nan if value is None else value


def spread_out(wanted: Float[np.ndarray, "M"], least: float) -> Float[np.ndarray, "M"]:
    """Heights near the wanted ones, in the same order, at least so far apart.

    Labels that would overlap form a block around their mean; blocks grow until none overlaps.
    """
    order = np.argsort(wanted, kind="stable")
    blocks: list[list[float]] = []
    for height in wanted[order]:
        blocks.append([float(height)])
        while len(blocks) > 1 and _reach(blocks[-2], least)[1] + least > _reach(blocks[-1], least)[0]:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    placed = [
        np.mean(block) + least * (place - (len(block) - 1) / 2)
        for block in blocks
        for place in range(len(block))
    ]
    heights = np.empty(len(wanted))
    heights[order] = placed
    return heights


def _reach(block: list[float], least: float) -> tuple[float, float]:
    """Lowest and highest label of a block."""
    half = least * (len(block) - 1) / 2
    return float(np.mean(block)) - half, float(np.mean(block)) + half
