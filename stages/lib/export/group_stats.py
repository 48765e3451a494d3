"""What can be said of groups' tensors, found out where they are decoded.

Decoding runs in parallel processes, so all that takes time per group is done there; the export only
gathers it.

    N = groups looked at together;  S = side of the cache's square tensors;  C = colour channels
    R = returns of all N groups;  P = S * S
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

from stages.lib.lidar import geometry

RANGE_BINS = 50  # from zero to the sensor's reach; the last one also counts what lies beyond

_TOGETHER = 32  # groups: enough to spread numpy's overhead, few enough for the processor's cache


@dataclass(frozen=True)
class Inspection:
    """Facts about one group's picture and scan."""

    picture_digest: str  # of its pixels
    scan_digest: str  # of its returns
    num_pixels: int
    is_constant: bool  # a picture of one single colour
    brightness: float  # mean of the colours, 0..1
    color_sums: Float[np.ndarray, "2 colors"]  # of the values in 0..1, and of their squares
    returns: int
    mean_range_m: float  # of the returns; 0 where there is none
    range_counts: Int[np.ndarray, "RANGE_BINS"]
    relief_squares: float  # sum of squared distances in m2 of the returns from their centroid
    fits: Float[np.ndarray, "8"] | None  # see orientation_fits


def inspect(
    rgb: UInt8[np.ndarray, "N C S S"], xyza: Float[np.ndarray, "N 4 S S"], max_range_m: float
) -> list[Inspection]:
    """All facts about each group."""
    parts = range(0, len(rgb), _TOGETHER)
    return [
        facts
        for start in parts
        for facts in _inspect(rgb[start : start + _TOGETHER], xyza[start : start + _TOGETHER], max_range_m)
    ]


def _inspect(
    rgb: UInt8[np.ndarray, "N C S S"], xyza: Float[np.ndarray, "N 4 S S"], max_range_m: float
) -> list[Inspection]:
    count, num_pixels = len(rgb), rgb[0, 0].size
    colors = rgb[:, :3].reshape(count, -1, num_pixels)
    sums = colors.sum(axis=2) / 255
    squares = np.square(colors, dtype=np.uint16).sum(axis=2) / 255**2
    # Margins are black in all channels; they say nothing about the picture that they complete.
    lit = np.any(rgb, axis=1)
    inside = lit.any(axis=2)[:, None, :, None] & lit.any(axis=1)[:, None, None, :]
    middle = rgb.shape[2] // 2
    constant = ((rgb == rgb[:, :, middle : middle + 1, middle : middle + 1]) | ~inside).all(axis=(1, 2, 3))
    # The returns of all groups in one row, with the number of the group that each belongs to.
    returned = xyza[:, 3] != 0
    groups, rows, columns = np.nonzero(returned)
    stored = xyza[groups, :3, rows, columns]  # (R, 3)
    returns = np.bincount(groups, minlength=count)
    points = stored.astype(np.float64)
    range_m = np.linalg.norm(points, axis=1)
    mean_range_m = np.bincount(groups, range_m, count) / np.maximum(returns, 1)
    bins = np.minimum(range_m * (RANGE_BINS / max_range_m), RANGE_BINS - 1).astype(np.int64)
    range_counts = np.bincount(groups * RANGE_BINS + bins, minlength=count * RANGE_BINS)
    cells = rows * xyza.shape[3] + columns
    fits = alignment_scores(_foreground(rgb), groups, cells)
    return [
        Inspection(
            picture_digest=digest_of(rgb[i]),
            # Cells without a return are zero, so where returns are and what they hold is all there is.
            scan_digest=digest_of(np.packbits(returned[i]), own_points),
            num_pixels=num_pixels,
            is_constant=bool(constant[i]),
            brightness=float(sums[i].mean() / num_pixels),
            color_sums=np.stack([sums[i], squares[i]]),
            returns=int(returns[i]),
            mean_range_m=float(mean_range_m[i]),
            range_counts=range_counts[i * RANGE_BINS : (i + 1) * RANGE_BINS],
            relief_squares=relief,
            fits=fits[i],
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
    """How well each raster lies on its picture, after each further turn of lidar.ORIENTATIONS.

    It is the correlation of the LiDAR's returns with the picture's foreground, highest where objects
    coincide; None where either is the same everywhere.

    Args:
        groups: of each return, in ascending order.
        cells: of each return, in its flattened raster.
    """
    count, size = foreground.shape
    shares = np.bincount(groups, minlength=count) / size  # of cells with a return
    flat = foreground.astype(np.float64)
    mean = flat.mean(axis=1)
    deviation = np.sqrt(np.maximum(np.einsum("np,np->n", flat, flat) / size - mean**2, 0))
    spread = deviation * np.sqrt(shares * (1 - shares))
    # Where each return would come to lie, rather than eight turned copies of the raster.
    places = _places(round(size**0.5))
    covered = [np.bincount(groups, flat[groups, place[cells]], count) / size for place in places]
    with np.errstate(invalid="ignore", divide="ignore"):
        fits = ((np.stack(covered) - mean * shares) / spread).T
    return [fit if known else None for fit, known in zip(fits, spread > 1e-9, strict=True)]


@functools.cache
def _places(side: int) -> Int[np.ndarray, "8 P"]:
    """The cell that each cell of a raster moves to, for each orientation."""
    numbered = np.arange(side**2).reshape(side, side)
    return np.stack([np.argsort(turn(numbered).ravel()) for turn in geometry.ORIENTATIONS.values()])


def _foreground(rgb: UInt8[np.ndarray, "N C S S"]) -> Int[np.ndarray, "N P"]:
    """How much each pixel differs from the picture's border: a guess at where the object is."""
    colors = rgb[:, :3]
    edges = [colors[:, :, 0], colors[:, :, -1], colors[:, :, :, 0], colors[:, :, :, -1]]
    border = np.sort(np.concatenate(edges, axis=2), axis=2)
    usual = border[:, :, border.shape[2] // 2].astype(np.int16)
    return np.abs(colors - usual[:, :, None, None]).sum(axis=1, dtype=np.int16).reshape(len(rgb), -1)


def digest_of(*parts: np.ndarray) -> str:
    """SHA-256 of arrays, their shapes included."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part.shape).encode() + part.tobytes())
    return digest.hexdigest()
