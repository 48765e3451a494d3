"""Statistics of each group's image and raster: digests, brightness, returns, ranges, alignment.

The decoding processes compute them, since these run in parallel; the export only collects them.

    N = groups computed together;  S = side of the cache's square tensors;  C = colour channels
    R = returns of all N groups;  P = S * S
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

from stages.lib.export import thumbnails
from stages.lib.lidar import geometry

RANGE_BINS = 50  # from zero to max_range_m; the last one also counts longer ranges

_TOGETHER = (
    32  # groups: more would not fit the processor's cache, fewer would spend more time in numpy's overhead
)


@dataclass(frozen=True)
class GroupStats:
    """Statistics of one group."""

    image_digest: str  # of its pixels
    raster_digest: str  # of the places and coordinates of its returns
    num_pixels: int
    is_constant: bool  # whether the image has a single colour
    brightness: float  # mean of the colours, in 0..1
    color_sums: Float[np.ndarray, "2 colors"]  # sums of the values in 0..1, and of their squares
    returns: int
    mean_range_m: float  # of the returns; 0 if there are none
    range_counts: Int[np.ndarray, "RANGE_BINS"]  # returns by range
    relief_squares: float  # sum of squared distances in m2 of the returns from their centroid
    alignment: Float[np.ndarray, "8"] | None  # see alignment_scores
    thumbnails: Float[np.ndarray, "2 T T"]  # of image and raster, see thumbnails.py


def compute(
    images: UInt8[np.ndarray, "N C S S"],
    rasters: Float[np.ndarray, "N 4 S S"],
    max_range_m: float,
    shapes: Sequence[tuple[int, int]] | None = None,
) -> list[GroupStats]:
    """The statistics of each group.

    Args:
        shapes: heights and widths of the images without margins; by default, there are no margins.
    """
    shapes = shapes or [images.shape[2:]] * len(images)
    parts = [slice(start, start + _TOGETHER) for start in range(0, len(images), _TOGETHER)]
    return [
        stats for part in parts for stats in _compute(images[part], rasters[part], max_range_m, shapes[part])
    ]


def _compute(
    images: UInt8[np.ndarray, "N C S S"],
    rasters: Float[np.ndarray, "N 4 S S"],
    max_range_m: float,
    shapes: Sequence[tuple[int, int]],
) -> list[GroupStats]:
    count, num_pixels = len(images), images[0, 0].size
    colors = images[:, :3].reshape(count, -1, num_pixels)
    sums = colors.sum(axis=2) / 255
    squares = np.square(colors, dtype=np.uint16).sum(axis=2) / 255**2
    # Margins around an image are black in all channels; they are no part of it.
    lit = np.any(images, axis=1)
    inside = lit.any(axis=2)[:, None, :, None] & lit.any(axis=1)[:, None, None, :]
    middle = images.shape[2] // 2
    center = images[:, :, middle : middle + 1, middle : middle + 1]
    constant = ((images == center) | ~inside).all(axis=(1, 2, 3))
    # The returns of all groups one after another, each with the number of its group.
    returned = rasters[:, 3] != 0
    groups, rows, columns = np.nonzero(returned)
    stored = rasters[groups, :3, rows, columns]  # (R, 3)
    returns = np.bincount(groups, minlength=count)
    points = stored.astype(np.float64)
    range_m = np.linalg.norm(points, axis=1)
    mean_range_m = np.bincount(groups, range_m, count) / np.maximum(returns, 1)
    bins = np.minimum(range_m * (RANGE_BINS / max_range_m), RANGE_BINS - 1).astype(np.int64)
    range_counts = np.bincount(groups * RANGE_BINS + bins, minlength=count * RANGE_BINS)
    cells = rows * rasters.shape[3] + columns
    alignment = alignment_scores(_foregrounds(images, shapes), groups, cells)
    small = thumbnails.compute(images, shapes, groups, cells, range_m)
    return [
        GroupStats(
            image_digest=digest_of(images[i]),
            # All other cells are zero, so the places and coordinates of the returns identify the raster.
            raster_digest=digest_of(np.packbits(returned[i]), own_points),
            num_pixels=num_pixels,
            is_constant=bool(constant[i]),
            brightness=float(sums[i].mean() / num_pixels),
            color_sums=np.stack([sums[i], squares[i]]),
            returns=int(returns[i]),
            mean_range_m=float(mean_range_m[i]),
            range_counts=range_counts[i * RANGE_BINS : (i + 1) * RANGE_BINS],
            relief_squares=relief,
            alignment=alignment[i],
            thumbnails=small[i],
        )
        for i, (relief, own_points) in enumerate(
            zip(
                _relief_squares(points, groups, returns),
                np.split(stored, np.cumsum(returns)[:-1]),
                strict=True,
            )
        )
    ]


def _relief_squares(
    points: Float[np.ndarray, "R 3"], groups: Int[np.ndarray, "R"], returns: Int[np.ndarray, "N"]
) -> list[float]:
    """By group, the sum of squared distances in m2 of the returns from their centroid."""
    sums = [np.bincount(groups, axis, len(returns)) for axis in points.T]
    centroids = np.stack(sums, axis=1) / np.maximum(returns, 1)[:, None]
    distances = np.square(points - centroids[groups]).sum(axis=1)
    return np.bincount(groups, distances, len(returns)).astype(float).tolist()


def alignment_scores(
    foreground: Num[np.ndarray, "N P"], groups: Int[np.ndarray, "R"], cells: Int[np.ndarray, "R"]
) -> list[Float[np.ndarray, "8"] | None]:
    """How well each raster covers its image, after each further turn of geometry.ORIENTATIONS.

    A score is the correlation of the returns with the image's foreground: it is highest where the objects of both
    coincide. None for a group whose foreground or returns are the same everywhere.

    Args:
        groups: number of each return's group, in ascending order.
        cells: place of each return in its flattened raster.
    """
    count, size = foreground.shape
    shares = np.bincount(groups, minlength=count) / size  # of cells with a return
    flat = foreground.astype(np.float64)
    mean = flat.mean(axis=1)
    deviation = np.sqrt(np.maximum(np.einsum("np,np->n", flat, flat) / size - mean**2, 0))
    spread = deviation * np.sqrt(shares * (1 - shares))
    # The place of each return after each turn; to turn the rasters themselves would be slower.
    places = _places(round(size**0.5))
    covered = [np.bincount(groups, flat[groups, place[cells]], count) / size for place in places]
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = ((np.stack(covered) - mean * shares) / spread).T
    return [score if known else None for score, known in zip(scores, spread > 1e-9, strict=True)]


@functools.cache
def _places(side: int) -> Int[np.ndarray, "8 P"]:
    """The cell that each cell of a raster moves to, for each orientation."""
    numbered = np.arange(side**2).reshape(side, side)
    return np.stack([np.argsort(turn(numbered).ravel()) for turn in geometry.ORIENTATIONS.values()])


def _foregrounds(
    images: UInt8[np.ndarray, "N C S S"], shapes: Sequence[tuple[int, int]]
) -> Int[np.ndarray, "N P"]:
    """The foreground of each image; margins have its mean, so that they tell nothing.

    Image and raster have the same margins. Their agreement would hide how the raster lies on the image.
    """
    foreground = _foreground(images)
    size = images.shape[2]
    for i, (height, width) in enumerate(shapes):
        if (height, width) != (size, size):
            top, left = (size - height) // 2, (size - width) // 2
            inner = _foreground(images[i : i + 1, :, top : top + height, left : left + width])
            square = np.full((size, size), round(inner.mean()), dtype=foreground.dtype)
            square[top : top + height, left : left + width] = inner.reshape(height, width)
            foreground[i] = square.ravel()
    return foreground


def _foreground(images: UInt8[np.ndarray, "N C H W"]) -> Int[np.ndarray, "N P"]:
    """How much each pixel differs from the image's border: an estimate of where the object is."""
    colors = images[:, :3]
    edges = [colors[:, :, 0], colors[:, :, -1], colors[:, :, :, 0], colors[:, :, :, -1]]
    border = np.sort(np.concatenate(edges, axis=2), axis=2)
    usual = border[:, :, border.shape[2] // 2].astype(np.int16)
    return np.abs(colors - usual[:, :, None, None]).sum(axis=1, dtype=np.int16).reshape(len(images), -1)


def digest_of(*parts: np.ndarray) -> str:
    """SHA-256 of arrays and their shapes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part.shape).encode() + part.tobytes())
    return digest.hexdigest()
