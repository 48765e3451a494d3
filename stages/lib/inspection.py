"""What can be said of one group's tensors, found out where they are decoded.

Decoding runs in parallel processes, so all that takes time per group is done there; the export only
gathers it.

    S = side of the cache's square tensors;  C = colour channels
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from stages.lib import lidar

RANGE_BINS = 50  # from zero to the sensor's reach; the last one also counts what lies beyond


@dataclass(frozen=True)
class Inspection:
    """Facts about one group's picture and scan."""

    picture_digest: str  # SHA-256 of shape and pixels
    scan_digest: str
    is_constant: bool  # a picture of one single colour
    brightness: float  # mean of the colours, 0..1
    color_sums: Float[np.ndarray, "2 colors"]  # of the values in 0..1, and of their squares
    returns: int
    mean_range_m: float  # of the returns; 0 where there is none
    range_counts: Int[np.ndarray, "RANGE_BINS"]
    relief_squares: float  # sum of squared distances in m2 of the returns from their centroid
    fits: Float[np.ndarray, "8"] | None  # see orientation_fits


def inspect(
    rgb: UInt8[np.ndarray, "C S S"], xyza: Float[np.ndarray, "4 S S"], max_range_m: float
) -> Inspection:
    """All facts about one group."""
    colors = rgb[:3].reshape(min(len(rgb), 3), -1)
    sums = colors.sum(axis=1) / 255
    squares = np.square(colors, dtype=np.uint16).sum(axis=1) / 255**2
    returned = xyza[3] > 0
    points = xyza[:3, returned].astype(np.float64)
    range_m = np.linalg.norm(points, axis=0)
    bins = np.minimum(range_m * (RANGE_BINS / max_range_m), RANGE_BINS - 1).astype(np.int64)
    relief = points - points.mean(axis=1, keepdims=True) if range_m.size else points
    return Inspection(
        picture_digest=_digest(rgb),
        scan_digest=_digest(xyza),
        is_constant=bool((rgb == rgb[:, :1, :1]).all()),
        brightness=float(sums.sum() / colors.size),
        color_sums=np.stack([sums, squares]),
        returns=range_m.size,
        mean_range_m=float(range_m.mean()) if range_m.size else 0.0,
        range_counts=np.bincount(bins, minlength=RANGE_BINS),
        relief_squares=float(np.square(relief).sum()),
        fits=orientation_fits(_foreground(rgb), returned),
    )


def orientation_fits(
    foreground: Float[np.ndarray, "S S"], returned: Bool[np.ndarray, "S S"]
) -> Float[np.ndarray, "8"] | None:
    """How well a raster lies on its picture, after each further turn of lidar.ORIENTATIONS.

    It is the correlation of the LiDAR's returns with the picture's foreground, highest where objects
    coincide; None where either is the same everywhere.
    """
    size, cells = returned.size, np.flatnonzero(returned)
    flat = foreground.ravel().astype(np.float64)
    mean = flat.sum() / size
    deviation = np.sqrt(max(flat @ flat / size - mean**2, 0.0))
    spread = deviation * np.sqrt(len(cells) * (size - len(cells))) / size
    if spread < 1e-9:
        return None
    # Where each return would come to lie, rather than eight turned copies of the raster.
    covered = flat[_places(returned.shape[0])[:, cells]].sum(axis=1)
    return (covered - mean * len(cells)) / size / spread


@functools.cache
def _places(side: int) -> Int[np.ndarray, "8 cells"]:
    """The cell that each cell of a raster moves to, for each orientation."""
    numbered = np.arange(side**2).reshape(side, side)
    return np.stack([np.argsort(turn(numbered).ravel()) for turn in lidar.ORIENTATIONS.values()])


def _foreground(rgb: UInt8[np.ndarray, "C S S"]) -> Float[np.ndarray, "S S"]:
    """How much each pixel differs from the picture's border, 0..1: a guess at where the object is."""
    colors = rgb[:3].astype(np.float32)
    border = np.concatenate([colors[:, 0], colors[:, -1], colors[:, :, 0], colors[:, :, -1]], axis=1)
    border.sort(axis=1)  # many times as fast as numpy's median, on so little
    usual = border[:, border.shape[1] // 2]
    return np.abs(colors - usual[:, None, None]).sum(axis=0) / (255 * len(colors))


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()
