"""The report's figures: data in, figure out; the only door to matplotlib.

One colour per model throughout, in the order of params.yaml; the palette (Okabe and Ito 2008) can be
told apart by the colour-blind, and every mark is also named, so grey print loses nothing.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from jaxtyping import Float, Num, UInt8
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_PALETTE = ["#999999", "#666666", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
_DISTINCT = _PALETTE[2:]  # for classes and splits, which may be many

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
        curves: by model, `train` and `valid` losses of S seeds and E epochs; NaN where a seed had stopped.
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
            np.nanmean(losses["valid"], axis=0),
            color=palette[name],
            linewidth=2,
            marker=marker,
            markersize=3,
            label="validation (mean; seeds thin)",
        )
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
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    # A head that starts far off would flatten every other curve.
    top = max(np.nanmean(losses[part], axis=0).max() for losses in curves.values() for part in losses)
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
    return max(np.nanmean(losses["valid"], axis=0).min() for losses in curves.values())


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


@dataclass(frozen=True)
class Histogram:
    """How often values fall between neighbouring edges."""

    label: str  # of the values, with their unit
    edges: Float[np.ndarray, "bins_and_one"]
    counts: Num[np.ndarray, "bins"]


def histograms(by_class: dict[str, list[Histogram]], by_split: dict[str, list[Histogram]]) -> Figure:
    """The same quantities compared between the training split's classes, and between splits."""
    num_columns = len(next(iter(by_split.values())))
    figure, axes = plt.subplots(2, num_columns, figsize=(8.4, 4.2), sharex="col", squeeze=False)
    for row, (title, groups) in enumerate(
        {"training split, by class": by_class, "all classes, by split": by_split}.items()
    ):
        palette = {name: _DISTINCT[i % len(_DISTINCT)] for i, name in enumerate(groups)}
        for column, axis in enumerate(axes[row]):
            for i, (name, columns) in enumerate(groups.items()):
                part = columns[column]
                shares = part.counts / max(part.counts.sum(), 1)
                style = "-" if i < len(_DISTINCT) else "--"
                axis.stairs(shares, part.edges, color=palette[name], label=name, linestyle=style)
            axis.set_yticks([])
            axis.spines["left"].set_visible(False)
            axis.set_ylim(bottom=0)
        axes[row, 0].set_ylabel("share")
        axes[row, 0].set_title(title, loc="left")
        axes[row, -1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    for column, axis in enumerate(axes[-1]):
        axis.set_xlabel(next(iter(by_split.values()))[column].label)
    return figure


def class_balance(counts: dict[str, dict[str, int]]) -> Figure:
    """Share of each class in each split, with the number of groups; the commonest classes at most.

    Args:
        counts: groups by split and class; empty splits are left out.
    """
    most = 15
    totals = {split: sum(by_class.values()) for split, by_class in counts.items()}
    splits = [split for split, total in totals.items() if total]
    names = list(next(iter(counts.values())))
    commonest = sorted(names, key=lambda name: -sum(counts[split][name] for split in splits))[:most]
    shown = [name for name in names if name in commonest]
    height = 0.8 / len(splits)
    figure, axis = plt.subplots(figsize=(6.8, 0.22 * len(shown) * len(splits) + 0.9))
    for i, split in enumerate(splits):
        places = np.arange(len(shown)) + (i - (len(splits) - 1) / 2) * height
        shares = [counts[split][name] / totals[split] for name in shown]
        axis.barh(places, shares, height=0.9 * height, color=_DISTINCT[i], alpha=0.75, label=split)
        for place, name, share in zip(places, shown, shares, strict=True):
            axis.text(share + 0.005, place, f"{counts[split][name]:,}", va="center", fontsize=7)
    axis.set_yticks(range(len(shown)), shown)
    axis.invert_yaxis()
    axis.margins(y=0.02)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("share of the split's groups; the numbers count them")
    axis.set_xlim(right=1.12 * axis.get_xlim()[1])
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    if len(shown) < len(names):
        axis.set_title(f"the {most} commonest of {len(names)} classes", loc="left", fontweight="normal")
    return figure


def contact_sheet(
    rows: dict[str, list[tuple[UInt8[np.ndarray, "S S 3"], UInt8[np.ndarray, "S S 3"]]]], num_columns: int
) -> Figure:
    """Samples of each class: pictures, and below each the depth view of the same group."""
    side = next(iter(rows.values()))[0][0].shape[0]
    gap = max(1, side // 16)
    height, width = (2 * side + 3 * gap) * len(rows), (side + gap) * num_columns
    # One picture of all, since an axis for each would take seconds.
    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    for row, pairs in enumerate(rows.values()):
        top = row * (2 * side + 3 * gap)
        for column, (picture, depth) in enumerate(pairs):
            left = column * (side + gap)
            sheet[top : top + side, left : left + side] = picture
            sheet[top + side + gap : top + 2 * side + gap, left : left + side] = depth
    margin, inches = 1.0, 8.0 / width
    figure = plt.figure(figsize=(margin + 8.0, inches * height), layout="none")
    axis = figure.add_axes((margin / (margin + 8.0), 0, 8.0 / (margin + 8.0), 1))
    axis.imshow(sheet, interpolation="nearest")
    axis.spines[:].set_visible(False)
    axis.set_xticks([])
    tops = np.arange(len(rows)) * (2 * side + 3 * gap)
    places = np.stack([tops + side / 2, tops + gap + 1.5 * side], axis=1).ravel()
    axis.set_yticks(places, [text for name in rows for text in (f"{_shortened(name)}\nRGB", "LiDAR")])
    axis.tick_params(axis="y", length=0, labelsize=8)
    return figure


def _shortened(name: str) -> str:
    """A class's name in lines that fit the margin."""
    return textwrap.fill(name, 15, max_lines=3, placeholder="...")


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG and frees the figure."""
    figure.savefig(path)
    plt.close(figure)
