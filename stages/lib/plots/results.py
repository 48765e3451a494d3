"""Figures of the results: data in, figure out.

S = seeds;  E = epochs;  M = models;  L = classes
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator, MultipleLocator

from stages.lib.plots.style import colors, plt

Bounds = tuple[float | None, float | None]
_MARKERS = "osD^vPX"  # beside the colours, of which there is another number: pairs repeat late


def _markers(names: list[str]) -> dict[str, str]:
    return dict(zip(names, itertools.cycle(_MARKERS), strict=False))


def _panels(count: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """As many panels as wanted, in rows."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(8.4, height * rows + 0.4), squeeze=False, **options)
    for place in range(count, axes.size):
        axes.flat[place].set_visible(False)
        if place >= columns:  # the panel above is the lowest of its column
            axes.flat[place - columns].tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def _legend_above(figure: Figure, axis: Axes) -> Legend:
    """One legend for all panels, from one of them."""
    handles, labels = axis.get_legend_handles_labels()
    return figure.legend(handles, labels, loc="outside upper center", ncols=_legend_columns(labels))


def _legend_columns(labels: list[str]) -> int:
    """As many as the figure's width has room for."""
    width_in = 0.5 + 0.065 * max(map(len, labels))
    return min(len(labels), int(8.2 / width_in))


def loss_curves(curves: dict[str, dict[str, Float[np.ndarray, "S E"]]], prior_loss: float) -> Figure:
    """Training and validation loss over the epochs, a panel per model.

    Args:
        curves: by model, `train` and `valid` losses; NaN where a seed had stopped.
        prior_loss: validation loss of always predicting the class frequencies.
    """
    figure, axes = _panels(len(curves), 3, 2.3, sharey=True)
    palette = colors(list(curves))
    for axis, (name, losses) in zip(axes, curves.items(), strict=True):
        num_epochs = losses["valid"].shape[1]
        epochs = np.arange(1, num_epochs + 1)
        marker = "o" if num_epochs <= 20 else None
        low, high = np.nanmin(losses["valid"], axis=0), np.nanmax(losses["valid"], axis=0)
        axis.fill_between(epochs, low, high, color=palette[name], alpha=0.25, linewidth=0)
        mean = np.nanmean(losses["valid"], axis=0)
        label = "validation (mean; band: all seeds)"
        axis.plot(epochs, mean, color=palette[name], linewidth=2, marker=marker, markersize=3, label=label)
        axis.plot(
            epochs,
            np.nanmean(losses["train"], axis=0),
            color="black",
            linewidth=1,
            linestyle=":",
            marker=marker,
            markersize=2,
            label="training (mean)",
        )
        axis.axhline(prior_loss, color="black", linewidth=0.8, linestyle="--", label="class prior")
        axis.set_title(name)
        axis.set_xlim(0.7, num_epochs + 0.3)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    # A single epoch far off would flatten every curve; what lies above is cut.
    typical = max(float(np.nanmedian(losses[part])) for losses in curves.values() for part in losses)
    axes[0].set_ylim(0, 1.25 * max(prior_loss, typical))
    for axis in axes[::3]:
        axis.set_ylabel("loss (nats)")
    figure.supxlabel("epoch", fontsize=9)
    _legend_above(figure, axes[0])
    return figure


def metric_intervals(
    values: dict[str, Float[np.ndarray, "S"]],
    intervals: dict[str, Bounds],
    chance: float,
    label: str,
    confidence: float,
) -> Figure:
    """A point per model with its interval and every seed's value, on an axis from the least of these, or chance.

    Args:
        values: by model, one value per seed.
        intervals: by model, the bounds of the mean's interval, or None where there is none.
        chance: what a model that learned nothing gets.
        label: of the axis.
        confidence: level of the intervals.
    """
    names = list(values)
    palette = colors(names)
    figure, axis = plt.subplots(figsize=(6.8, 0.42 * len(names) + 1.1))
    places = np.arange(len(names))[::-1]
    means = np.array([values[name].mean() for name in names])
    lowest = [chance, *(value.min() for value in values.values())]
    lowest += [low for low, _ in intervals.values() if low is not None]
    for place, name, mean in zip(places, names, means, strict=True):
        low, high = intervals[name]
        if low is not None and high is not None:
            axis.hlines(place, low, high, color=palette[name], linewidth=5, alpha=0.45)
        axis.scatter(values[name], np.full(len(values[name]), place - 0.26), s=5, color="0.35", zorder=3)
        axis.plot(mean, place, "o", color=palette[name], markersize=6, markeredgecolor="black", zorder=4)
        axis.text(1.01, place, f"{mean:.3f}", transform=axis.get_yaxis_transform(), va="center")
    axis.axvline(chance, color="black", linestyle="--", linewidth=0.8)
    axis.set_yticks(places, names)
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_xlim(min(lowest) - 0.02, 1.01)  # a point at 1 is shown whole
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.set_xlabel(label)
    axis.set_title(
        f"circle: mean; band: {confidence:.0%} interval over seeds and scenes; dots: seeds; dashed: class prior",
        fontweight="normal",
        loc="left",
    )
    axis.tick_params(axis="y", length=0)
    return figure


def difference_matrix(
    names: list[str], differences: dict[tuple[str, str], float], intervals: dict[tuple[str, str], Bounds]
) -> Figure:
    """Balanced accuracy of each model (row) less that of each other (column), in points.

    Args:
        differences, intervals: of each pair, once.
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
            text = _points(value)
            if bounds and has_room:
                text += f"\n{_points(bounds[0])} to {_points(bounds[1])}"
            color = "white" if abs(value) > 0.6 * reach else "black"
            axis.text(*place, text, ha="center", va="center", fontsize=7, color=color)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_title(
        "balanced accuracy, row less column, percentage points (exploratory)", fontweight="normal", loc="left"
    )
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def _points(value: float) -> str:
    """With its sign; zero has none, whatever it was rounded from."""
    return f"{value:+.1f}" if abs(value) >= 0.05 else "0.0"


@dataclass(frozen=True)
class Spot:
    """A model in a plane of cost and loss."""

    costs: dict[str, float]  # by axis label
    loss: float
    bounds: Bounds


def pareto(spots: dict[str, Spot], loss_label: str) -> Figure:
    """Loss over each cost, with intervals; the line joins the models that no other beats in both."""
    palette, markers = colors(list(spots)), _markers(list(spots))
    costs = list(next(iter(spots.values())).costs)
    # Many models need all the width.
    figure, axes = _panels(len(costs), 3 if len(spots) <= 10 else 1, 3.0, sharey=True)
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
    _legend_above(figure, axes[0])
    return figure


def sensor_use(
    lost: dict[str, dict[str, tuple[float, Bounds]]], names: list[str], confidence: float
) -> Figure:
    """How much balanced accuracy each fusion loses in each case, in points.

    Args:
        lost: by case, such as "without RGB", and fusion: the mean loss and its interval.
        names: all models, in order.
        confidence: level of the intervals.
    """
    cases = list(lost)
    fusions = list(next(iter(lost.values())))
    palette = colors(names)
    figure, axes = _panels(len(cases), 4, 0.34 * len(fusions) + 0.9, sharex=True, sharey=True)
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


def corruption_curves(
    curves: dict[str, dict[str, tuple[list[int], list[float]]]], names: list[str], chance: float
) -> Figure:
    """Balanced accuracy over the severity, a panel per corruption.

    Args:
        curves: by corruption and model, severities from 0 and accuracies.
        names: all models, in order.
    """
    palette, markers = colors(names), _markers(names)
    figure, axes = _panels(len(curves), 4, 1.8, sharex=True, sharey=True)
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
    columns = _legend_columns(shown)
    figure.legend([seen[name] for name in shown], shown, loc="outside upper center", ncols=columns)
    return figure


def reliability(bins: dict[str, dict[str, tuple[list[float], list[float]]]]) -> Figure:
    """How often predictions are right over how sure they are, a panel per model.

    Args:
        bins: by model, "before" and "after" temperature scaling: confidence and accuracy of each bin.
    """
    palette = colors(list(bins))
    figure, axes = _panels(len(bins), 3, 2.3, sharex=True, sharey=True)
    styles = {"before": ("o-", 1.0), "after": ("s:", 0.55)}
    for axis, (name, states) in zip(axes, bins.items(), strict=True):
        least = min(min(confidence) for confidence, _ in states.values())
        axis.plot([least, 1], [least, 1], color="black", linewidth=0.8, linestyle="--", label="calibrated")
        for state, (confidence, accuracy) in states.items():
            style, alpha = styles[state]
            axis.plot(
                confidence,
                accuracy,
                style,
                color=palette[name],
                alpha=alpha,
                markersize=3,
                label=f"{state} scaling",
            )
        axis.set_title(name)
    for axis in axes[::3]:
        axis.set_ylabel("share right")
    figure.supxlabel("confidence of the prediction", fontsize=9)
    legend = _legend_above(figure, axes[0])
    for line in legend.get_lines():  # the styles are those of all panels, the colour is not
        line.set_color("black")
    return figure


def confusions(matrices: dict[str, Float[np.ndarray, "L L"]], classes: list[str]) -> Figure:
    """Share of each true class (row) that is predicted as each class, a panel per model."""
    columns = 3 if len(matrices) % 3 == 0 else 4  # few gaps
    figure, axes = _panels(len(matrices), columns, 2.1, sharex=True, sharey=True)
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
            axis.set_xticks(range(len(classes)), classes, rotation=30, ha="right", fontsize=7)
            axis.set_yticks(range(len(classes)), classes, fontsize=7)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    figure.supxlabel("predicted class", fontsize=9)
    figure.supylabel("true class", fontsize=9)
    return figure


@dataclass(frozen=True)
class Mistake:
    """A sample that a model gets wrong."""

    picture: UInt8[np.ndarray, "H W 3"]
    depth: UInt8[np.ndarray, "H W 3"]
    caption: str


def mistakes(by_model: dict[str, list[Mistake]], most: int) -> Figure:
    """The worst errors of each model: RGB over depth, with what it is and what it is taken for.

    Args:
        most: errors of a model at most; where they are few, several models stand side by side.
    """
    shown = [mistake for found in by_model.values() for mistake in found]
    side = shown[0].picture.shape[0] if shown else 64
    gap, caption, naming = max(1, side // 16), round(0.62 * side), round(0.5 * side)
    abreast = max(1, min(8 // most, len(by_model)))
    height, width = caption + 2 * (side + gap), naming + (side + gap) * most
    # One picture of all, since an axis for each would take seconds.
    sheet = np.full((height * -(-len(by_model) // abreast), width * abreast, 3), 255, dtype=np.uint8)
    figure = plt.figure(figsize=(8.4, 8.4 / sheet.shape[1] * len(sheet)), layout="none")
    axis = figure.add_axes((0, 0, 1, 1))
    turned: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center"}
    for number, (name, found) in enumerate(by_model.items()):
        top, start = number // abreast * height + caption, number % abreast * width + naming
        for column, mistake in enumerate(found):
            left = start + column * (side + gap)
            sheet[top : top + side, left : left + side] = mistake.picture
            sheet[top + side + gap : top + 2 * side + gap, left : left + side] = mistake.depth
            axis.text(left + side / 2, top - gap, mistake.caption, ha="center", va="bottom", fontsize=6.5)
        axis.text(start - 4 * gap, top + side, name, fontweight="bold", **turned)
        if not found:
            axis.text(start, top, "no errors", va="top")
            continue
        axis.text(start - gap, top + side / 2, "RGB", fontsize=7, **turned)
        axis.text(start - gap, top + gap + 1.5 * side, "LiDAR", fontsize=7, **turned)
    axis.imshow(sheet, interpolation="nearest")
    axis.axis("off")
    return figure
