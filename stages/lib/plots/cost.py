"""Draws loss against cost, with the Pareto front."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from stages.lib.plots import panels
from stages.lib.plots.accuracy import Bounds
from stages.lib.plots.style import colors


@dataclass(frozen=True)
class ParetoPoint:
    """Costs and loss of one model."""

    costs: dict[str, float]  # by axis label
    loss: float
    bounds: Bounds


def pareto(points: dict[str, ParetoPoint], loss_label: str) -> Figure:
    """Loss over each cost, with intervals; the line joins the models that no other model beats in both."""
    palette, markers = colors(list(points)), panels.markers(list(points))
    costs = list(next(iter(points.values())).costs)
    # Many models need the full width.
    figure, axes = panels.grid(len(costs), 3 if len(points) <= 10 else 1, 3.0, sharey=True)
    for axis, cost in zip(axes, costs, strict=True):
        for name, point in points.items():
            low, high = point.bounds
            if low is not None and high is not None:
                axis.plot([point.costs[cost]] * 2, [low, high], color=palette[name], linewidth=1)
            axis.plot(
                point.costs[cost],
                point.loss,
                marker=markers[name],
                linestyle="",
                markersize=7,
                color=palette[name],
                markeredgecolor="black",
                markeredgewidth=0.6,
                label=name,
            )
        front = [
            (point.costs[cost], point.loss)
            for point in points.values()
            if not any(
                other.costs[cost] <= point.costs[cost] and other.loss <= point.loss and other != point
                for other in points.values()
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
