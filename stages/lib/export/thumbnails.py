"""Thumbnails of pictures and rasters, from which the export recognises near copies.

N = groups computed together;  S = side of the cache's square tensors;  C = colour channels
R = returns of all N groups;  T = side of a thumbnail
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

SIDE = 16  # of a thumbnail, T

_NEAREST_M = 0.1  # nearer returns count as being so far away, so that none outweighs all others


def compute(
    images: UInt8[np.ndarray, "N C S S"],
    shapes: Sequence[tuple[int, int]],
    groups: Int[np.ndarray, "R"],
    cells: Int[np.ndarray, "R"],
    range_m: Float[np.ndarray, "R"],
) -> Float[np.ndarray, "N 2 T T"]:
    """Two thumbnails of each group, without margins: mean brightness in 0..1, and mean nearness in 1/m.

    A cell without return has nearness 0.

    Args:
        shapes: heights and widths of the images without margins.
        groups: number of each return's group.
        cells: place of each return in its flattened raster.
        range_m: range of each return.
    """
    size = images.shape[2]
    found = np.empty((len(images), 2, SIDE, SIDE), dtype=np.float16)
    nearness = 1 / np.maximum(range_m, _NEAREST_M)
    for shape in dict.fromkeys(shapes):
        members = [i for i, own in enumerate(shapes) if own == shape]
        whole = len(members) == len(images)
        pictures = images[:, :3] if whole else images[members, :3]
        found[members, 0] = _brightness(pictures, shape)
        boxes, areas = _boxes(size, shape)
        places = groups * SIDE**2 + boxes[cells]
        sums = np.bincount(places, nearness, len(images) * SIDE**2).reshape(len(images), SIDE, SIDE)
        found[members, 1] = (sums if whole else sums[members]) / areas
    return found


def _brightness(colors: UInt8[np.ndarray, "n c S S"], shape: tuple[int, int]) -> Float[np.ndarray, "n T T"]:
    size = colors.shape[2]
    (top, rows, heights), (left, columns, widths) = (_edges(size, length) for length in shape)
    inner = colors[:, :, top : top + shape[0], left : left + shape[1]]
    grey = inner[:, 0]
    for color in inner[:, 1:].swapaxes(0, 1):
        grey = np.add(grey, color, dtype=np.uint16)
    # Row after row of all boxes: `np.add.reduceat` and running sums take ten times as long.
    strips = np.zeros((len(grey), SIDE, shape[1]), dtype=np.uint32)
    for row in range(heights.max()):
        high = row < heights
        strips[:, high] += grey[:, rows[high] + row]
    along = strips.cumsum(axis=2, dtype=np.uint32)
    sums = along[:, :, columns + widths - 1] - along[:, :, columns - 1] * (columns > 0)
    return sums / (255 * inner.shape[1] * heights[:, None] * widths)


@functools.cache
def _edges(size: int, length: int) -> tuple[int, Int[np.ndarray, "T"], Int[np.ndarray, "T"]]:
    """Width of the margin; first pixel of each box, counted from there; pixels of each box, at least one."""
    first = np.arange(SIDE) * length // SIDE
    return (size - length) // 2, first, np.maximum(np.diff(np.append(first, length)), 1)


@functools.cache
def _boxes(size: int, shape: tuple[int, int]) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "T T"]]:
    """The box of each of the P = S * S cells, and the number of cells of each box."""
    numbers, lengths = [], []
    for length in shape:
        margin, first, counts = _edges(size, length)
        inner = np.clip(np.arange(size) - margin, 0, length - 1)
        numbers.append(np.searchsorted(first, inner, side="right") - 1)
        lengths.append(counts)
    rows, columns = numbers
    return (rows[:, None] * SIDE + columns).ravel(), lengths[0][:, None] * lengths[1]
