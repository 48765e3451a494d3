"""Draws figures of the dataset: class balance, histograms, contact sheets."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num, UInt8
from matplotlib.figure import Figure

from stages.lib.plots.style import DISTINCT, in_known_characters, plain, plt

Shown = tuple[UInt8[np.ndarray, "S S 3"], UInt8[np.ndarray, "S S 3"], str]  # image, depth image, caption


@dataclass(frozen=True)
class Histogram:
    """Numbers of values between neighbouring edges."""

    label: str  # name of the values, with their unit
    edges: Float[np.ndarray, "bins_and_one"]
    counts: Num[np.ndarray, "bins"]


def histograms(by_class: dict[str, list[Histogram]], by_split: dict[str, list[Histogram]]) -> Figure:
    """Histograms of the same quantities: of the training split by class, and of all classes by split."""
    num_columns = len(next(iter(by_split.values())))
    figure, axes = plt.subplots(2, num_columns, figsize=(8.4, 4.2), sharex="col", squeeze=False)
    for row, (title, groups) in enumerate(
        {"training split, by class": by_class, "all classes, by split": by_split}.items()
    ):
        palette = {name: DISTINCT[i % len(DISTINCT)] for i, name in enumerate(groups)}
        for column, axis in enumerate(axes[row]):
            for i, (name, columns) in enumerate(groups.items()):
                part = columns[column]
                shares = part.counts / max(part.counts.sum(), 1)
                style = "-" if i < len(DISTINCT) else "--"
                axis.stairs(shares, part.edges, color=palette[name], label=plain(name), linestyle=style)
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
    """Share of each class in each split, with the number of groups; only the most frequent classes.

    Args:
        counts: groups by split and class; empty splits are left out.
    """
    most = 15
    totals = {split: sum(by_class.values()) for split, by_class in counts.items()}
    splits = [split for split, total in totals.items() if total]
    names = list(next(iter(counts.values())))
    most_frequent = sorted(names, key=lambda name: -sum(counts[split][name] for split in splits))[:most]
    shown = [name for name in names if name in most_frequent]
    height = 0.8 / len(splits)
    figure, axis = plt.subplots(figsize=(6.8, 0.22 * len(shown) * len(splits) + 0.9))
    for i, split in enumerate(splits):
        places = np.arange(len(shown)) + (i - (len(splits) - 1) / 2) * height
        shares = [counts[split][name] / totals[split] for name in shown]
        axis.barh(places, shares, height=0.9 * height, color=DISTINCT[i], alpha=0.75, label=split)
        for place, name, share in zip(places, shown, shares, strict=True):
            axis.text(share + 0.005, place, f"{counts[split][name]:,}", va="center", fontsize=7)
    axis.set_yticks(range(len(shown)), [plain(name) for name in shown])
    axis.invert_yaxis()
    axis.margins(y=0.02)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("share of the split's groups; the numbers count them")
    axis.set_xlim(right=1.12 * axis.get_xlim()[1])
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    if len(shown) < len(names):
        axis.set_title(f"the {most} most frequent of {len(names)} classes", loc="left", fontweight="normal")
    return figure


def contact_sheet(
    rows: dict[str, list[tuple[UInt8[np.ndarray, "S S 3"], UInt8[np.ndarray, "S S 3"]]]], num_columns: int
) -> Figure:
    """Samples of each class: images, each above the depth image of the same group.

    Args:
        rows: by class, pairs of image and depth image.
    """
    side = next(iter(rows.values()))[0][0].shape[0]
    gap = max(1, side // 16)
    height, width = (2 * side + 3 * gap) * len(rows), (side + gap) * num_columns
    # One large image, because a separate axis for each sample would take seconds.
    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    for row, pairs in enumerate(rows.values()):
        top = row * (2 * side + 3 * gap)
        for column, (image, depth_image) in enumerate(pairs):
            left = column * (side + gap)
            sheet[top : top + side, left : left + side] = image
            sheet[top + side + gap : top + 2 * side + gap, left : left + side] = depth_image
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


def pairs(found: list[tuple[Shown, Shown]]) -> Figure:
    """Pairs of groups: image beside depth image of the one, then of the other, with their captions below."""
    abreast = min(2, len(found))
    side = found[0][0][0].shape[0]
    gap, caption = max(1, side // 16), round(0.42 * side)
    # So many sides of a picture: two groups, each of two pictures, and room between pairs.
    width, height = 4 * side + 8 * gap, side + caption
    sheet = np.full((height * -(-len(found) // abreast), width * abreast, 3), 255, dtype=np.uint8)
    figure = plt.figure(figsize=(4.2 * abreast, 4.2 * abreast / sheet.shape[1] * len(sheet)), layout="none")
    axis = figure.add_axes((0, 0, 1, 1))
    for number, pair in enumerate(found):
        top, start = number // abreast * height, number % abreast * width + 2 * gap
        for place, (image, depth_image, text) in enumerate(pair):
            left = start + place * (2 * side + 3 * gap)
            sheet[top : top + side, left : left + side] = image
            sheet[top : top + side, left + side + gap : left + 2 * side + gap] = depth_image
            axis.text(left, top + side + gap / 2, plain(text), va="top", fontsize=7)
    axis.imshow(sheet, interpolation="nearest")
    axis.axis("off")
    return figure


def _shortened(name: str) -> str:
    """The name of a class in lines that fit into the margin."""
    return plain(textwrap.fill(in_known_characters(name), 15, max_lines=3, placeholder="..."))
