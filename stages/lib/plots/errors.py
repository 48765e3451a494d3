"""Draws the samples with the worst errors of each model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from stages.lib.plots.style import plain, plt


@dataclass(frozen=True)
class ErrorSample:
    """A sample that a model predicts wrongly."""

    image: UInt8[np.ndarray, "H W 3"]
    depth_image: UInt8[np.ndarray, "H W 3"]
    caption: str


def error_samples(by_model: dict[str, list[ErrorSample]], most: int) -> Figure:
    """The worst errors of each model: image above depth image, with a caption.

    Args:
        most: largest number of errors of a model; if it is small, several models stand side by side.
    """
    shown = [error for found in by_model.values() for error in found]
    side = shown[0].image.shape[0] if shown else 64
    gap, caption, naming = max(1, side // 16), round(0.62 * side), round(0.5 * side)
    abreast = max(1, min(8 // most, len(by_model)))
    height, width = caption + 2 * (side + gap), naming + (side + gap) * most
    # One large image, because a separate axis for each sample would take seconds.
    sheet = np.full((height * -(-len(by_model) // abreast), width * abreast, 3), 255, dtype=np.uint8)
    figure = plt.figure(figsize=(8.4, 8.4 / sheet.shape[1] * len(sheet)), layout="none")
    axis = figure.add_axes((0, 0, 1, 1))
    turned: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center"}
    for number, (name, found) in enumerate(by_model.items()):
        top, start = number // abreast * height + caption, number % abreast * width + naming
        for column, error in enumerate(found):
            left = start + column * (side + gap)
            sheet[top : top + side, left : left + side] = error.image
            sheet[top + side + gap : top + 2 * side + gap, left : left + side] = error.depth_image
            axis.text(
                left + side / 2, top - gap, plain(error.caption), ha="center", va="bottom", fontsize=6.5
            )
        axis.text(start - 4 * gap, top + side, name, fontweight="bold", **turned)
        if not found:
            axis.text(start, top, "no errors", va="top")
            continue
        axis.text(start - gap, top + side / 2, "RGB", fontsize=7, **turned)
        axis.text(start - gap, top + gap + 1.5 * side, "LiDAR", fontsize=7, **turned)
    axis.imshow(sheet, interpolation="nearest")
    axis.axis("off")
    return figure
