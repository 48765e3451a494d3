"""The report's figures: data in, figure out; the only door to matplotlib.

One colour per model throughout, in the order of params.yaml; the palette (Okabe and Ito 2008) can be
told apart by the colour-blind, and every mark is also named, so grey print loses nothing.
"""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_PALETTE = ["#999999", "#666666", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]

plt.rcParams.update(
    {
        "figure.dpi": 130,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "legend.frameon": False,
    }
)


def colors(names: list[str]) -> dict[str, str]:
    """A colour for each model, by its place."""
    return {name: _PALETTE[place % len(_PALETTE)] for place, name in enumerate(names)}


def loss_curves(curves: dict[str, dict[str, Float[np.ndarray, "S E"]]], prior_loss: float) -> Figure:
    """Training and validation loss over the epochs, a panel per model.

    Args:
        curves: by model, `train` and `valid` losses of S seeds and E epochs.
        prior_loss: validation loss of always predicting the class frequencies.
    """
    columns = 3
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(8.4, 2.5 * rows + 0.3), sharey=True, squeeze=False)
    palette = colors(list(curves))
    for axis, (name, losses) in zip(axes.flat, curves.items(), strict=False):
        num_epochs = losses["valid"].shape[1]
        epochs = np.arange(1, num_epochs + 1)
        axis.plot(epochs, losses["valid"].T, color=palette[name], alpha=0.3, linewidth=0.8)
        marker = "o" if num_epochs <= 20 else None
        axis.plot(
            epochs,
            losses["valid"].mean(axis=0),
            color=palette[name],
            linewidth=2,
            marker=marker,
            markersize=3,
            label="validation (mean; seeds thin)",
        )
        axis.plot(
            epochs,
            losses["train"].mean(axis=0),
            color="black",
            linewidth=1,
            linestyle=":",
            marker=marker,
            markersize=2,
            label="training (mean)",
        )
        axis.axhline(prior_loss, color="black", linewidth=0.8, linestyle="--", label="class prior")
        axis.set_title(name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    # A head that starts far off would flatten every other curve.
    top = max(losses[part].mean(axis=0).max() for losses in curves.values() for part in losses)
    axes[0, 0].set_ylim(0, min(1.05 * top, 2 * max(prior_loss, _least_peak(curves))))
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("loss (nats)")
    figure.supxlabel("epoch", fontsize=9)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def _least_peak(curves: dict[str, dict[str, Float[np.ndarray, "S E"]]]) -> float:
    """The validation loss that every model's mean curve gets down to."""
    return max(losses["valid"].mean(axis=0).min() for losses in curves.values())


def metric_bars(
    values: dict[str, Float[np.ndarray, "S"]],
    intervals: dict[str, tuple[float | None, float | None]],
    chance: float,
    label: str,
    confidence: float,
) -> Figure:
    """A bar per model with its interval and every seed's value.

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
    axis.barh(places, means, color=[palette[name] for name in names], alpha=0.55, height=0.62)
    for place, name, mean in zip(places, names, means, strict=True):
        low, high = intervals[name]
        if low is not None and high is not None:
            axis.plot([low, high], [place, place], color="black", linewidth=1.4)
        axis.scatter(values[name], np.full(len(values[name]), place), s=9, color="black", zorder=3)
        axis.text(1.01, place, f"{mean:.3f}", transform=axis.get_yaxis_transform(), va="center")
    axis.axvline(chance, color="black", linestyle="--", linewidth=0.8)
    axis.set_yticks(places, names)
    axis.set_xlim(0, 1)
    axis.set_xlabel(label)
    axis.set_title(
        f"bar: mean; line: {confidence:.0%} interval over seeds; dots: seeds; dashed: class prior",
        fontweight="normal",
        loc="left",
    )
    axis.tick_params(axis="y", length=0)
    return figure


def size_against_loss(
    sizes_m: dict[str, float], losses: dict[str, Float[np.ndarray, "S"]], split: str
) -> Figure:
    """Each model's loss over its number of parameters in millions."""
    palette = colors(list(sizes_m))
    figure, axis = plt.subplots(figsize=(6.0, 3.2))
    for name, size in sizes_m.items():
        axis.scatter(np.full(len(losses[name]), size), losses[name], s=12, color=palette[name], alpha=0.5)
        mean = losses[name].mean()
        axis.scatter([size], [mean], s=48, color=palette[name], edgecolor="black", linewidth=0.6)
        axis.annotate(name, (size, mean), xytext=(7, 0), textcoords="offset points", va="center")
    axis.set_xlabel("parameters (millions)")
    axis.set_ylabel(f"{split} loss (nats)")
    axis.set_xlim(0, max(sizes_m.values()) * 1.2)
    axis.set_ylim(bottom=0)
    return figure


def samples(
    pictures: list[UInt8[np.ndarray, "H W 3"]],
    depths: list[UInt8[np.ndarray, "H W 3"]],
    titles: list[str],
) -> Figure:
    """Pictures over the depth views of the same groups."""
    figure, axes = plt.subplots(2, len(pictures), figsize=(0.95 * len(pictures), 2.2), squeeze=False)
    for column, (picture, depth, title) in enumerate(zip(pictures, depths, titles, strict=True)):
        for axis, image in zip(axes[:, column], (picture, depth), strict=True):
            axis.imshow(image, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        axes[0, column].set_title(title, fontsize=7, fontweight="normal")
    axes[0, 0].set_ylabel("RGB")
    axes[1, 0].set_ylabel("LiDAR")
    return figure
