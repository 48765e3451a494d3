"""Figures of loss against cost."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from stages.lib.plots import panels
from stages.lib.plots.accuracy import Bounds
from stages.lib.plots.style import colors


@dataclass(frozen=True)
class ParetoPoint:
    """A model in a plane of cost and loss."""

    costs: dict[str, float]  # by axis label
    loss: float
    bounds: Bounds


def pareto(spots: dict[str, ParetoPoint], loss_label: str) -> Figure:
    """Loss over each cost, with intervals; the line joins the models that no other beats in both."""
    palette, markers = colors(list(spots)), panels.markers(list(spots))
    costs = list(next(iter(spots.values())).costs)
    # Many models need all the width.
    figure, axes = panels.grid(len(costs), 3 if len(spots) <= 10 else 1, 3.0, sharey=True)
    for axis, cost in zip(axes, costs, strict=True):
        for name, spot in spots.items():
            low, high = spot.bounds
            if low is not None and high is not None:
                axis.plot([spot.costs[cost]] * 2, [low, high], color=palette[name], linewidth=1)
            axis.plot(
                spot.costs[cost],
                spot.loss,
                marker=markers[name],
                linestyle="",
                markersize=7,
                color=palette[name],
                markeredgecolor="black",
                markeredgewidth=0.6,
                label=name,
            )
        front = [
            (spot.costs[cost], spot.loss)
            for spot in spots.values()
            if not any(
                other.costs[cost] <= spot.costs[cost] and other.loss <= spot.loss and other != spot
                for other in spots.values()
            )
        ]
        axis.step(*zip(*sorted(front), strict=True), where="post", color="black", linewidth=0.8, zorder=0)
        axis.set_xlabel(cost)
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        spec = axis.get_subplotspec()
        if spec is not None and spec.is_first_col():
            axis.set_ylabel(loss_label)
    panels.legend_above(figure, axes[0])
    return figure
