"""Projects a point cloud to an XYZA raster.

N = points of a cloud;  R, C = rows (azimuth) and columns (zenith) of the raster
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from stages.lib.lidar import returns
from stages.lib.lidar.returns import Losses

_BINS = 3600  # of the whole circle, in which azimuths are collected
# A fitted view crosses 180 degrees only where this makes it smaller by so many radians.
_WORTH_CROSSING_RAD = np.deg2rad(10)


@dataclass(frozen=True)
class FieldOfView:
    """The angles of the raster's first and last row and column, in radians. Azimuths may exceed 180 degrees."""

    azimuth_rad: tuple[float, float]
    zenith_rad: tuple[float, float]

    @classmethod
    def from_degrees(cls, azimuth: Sequence[float], zenith: Sequence[float]) -> FieldOfView:
        """The view between these bounds in degrees, two for each angle."""
        return cls(*((math.radians(first), math.radians(last)) for first, last in (azimuth, zenith)))

    def degrees(self) -> dict[str, list[float]]:
        """In the form of `dataset.lidar.field_of_view_deg` of params.yaml."""
        return {
            "azimuth": np.rad2deg(self.azimuth_rad).tolist(),
            "zenith": np.rad2deg(self.zenith_rad).tolist(),
        }

    def contains(self, points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, "N"]:
        """Which points lie between the bounds."""
        azimuth, zenith, _ = _spherical(points)
        azimuth = _near(azimuth, self.azimuth_rad)
        inside = (azimuth >= self.azimuth_rad[0]) & (azimuth <= self.azimuth_rad[1])
        return inside & (zenith >= self.zenith_rad[0]) & (zenith <= self.zenith_rad[1])


@dataclass(frozen=True)
class Extent:
    """Directions of points: smallest and largest azimuth in each bin of the circle, and of all zeniths, in radians.

    Two numbers alone could not say where on the circle the points are.
    """

    first: Float[np.ndarray, "bins"]
    last: Float[np.ndarray, "bins"]
    zenith_rad: tuple[float, float]


def extent(points: Float[np.ndarray, "N 3"], max_range_m: float) -> Extent | None:
    """The directions of all points in range; None when no point is."""
    azimuth, zenith, range_m = _spherical(points)
    seen = np.isfinite(range_m) & (range_m > 0) & (range_m < max_range_m)
    if not seen.any():
        return None
    azimuth, zenith = azimuth[seen], zenith[seen]
    bins = np.clip((azimuth + np.pi) / (2 * np.pi) * _BINS, 0, _BINS - 1).astype(np.int64)
    first, last = np.full(_BINS, np.inf), np.full(_BINS, -np.inf)
    np.minimum.at(first, bins, azimuth)
    np.maximum.at(last, bins, azimuth)
    return Extent(first, last, (float(zenith.min()), float(zenith.max())))


def joined(extents: Iterable[Extent]) -> Extent:
    """The directions of all these points together."""
    found = list(extents)
    zeniths = np.array([part.zenith_rad for part in found])
    return Extent(
        np.min([part.first for part in found], axis=0),
        np.max([part.last for part in found], axis=0),
        (float(zeniths[:, 0].min()), float(zeniths[:, 1].max())),
    )


def smallest_view(extents: Iterable[Extent]) -> FieldOfView | None:
    """The smallest field of view that contains all these directions; None when there are none.

    It crosses 180 degrees only where that makes it clearly smaller: for points behind the sensor.
    """
    found = list(extents)
    if not found:
        return None
    every = joined(found)
    filled = np.flatnonzero(np.isfinite(every.first))
    low, high = float(every.first[filled[0]]), float(every.last[filled[-1]])
    gaps = every.first[filled[1:]] - every.last[filled[:-1]]
    if gaps.size and gaps.max() > 2 * np.pi - (high - low) + _WORTH_CROSSING_RAD:
        widest = int(gaps.argmax())
        low, high = float(every.first[filled[widest + 1]]), float(every.last[filled[widest]]) + 2 * np.pi
    return FieldOfView((low, high), every.zenith_rad)


def from_cloud(
    points: Float[np.ndarray, "N 3"], view: FieldOfView, shape: tuple[int, int], max_range_m: float
) -> tuple[Float[np.ndarray, "4 R C"], Losses]:
    """XYZA raster of a cloud by spherical projection; of several points in one cell the nearest is kept.

    A cell holds the coordinates of its point. Left out, and counted, are points outside the field of view, points
    out of range, and those without finite coordinates (organised clouds mark rays without return so).

    Args:
        shape: rows and columns of the raster.
    """
    finite = np.isfinite(points).all(axis=1)
    points = points[finite]
    azimuth, zenith, range_m = _spherical(points)
    rows = _cells(_near(azimuth, view.azimuth_rad), view.azimuth_rad, shape[0])
    columns = _cells(zenith, view.zenith_rad, shape[1])
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    in_range = (range_m > 0) & (range_m < max_range_m)
    # Far points first: the nearest point of a cell is written last.
    chosen = inside & in_range
    order = np.flatnonzero(chosen)[np.argsort(-range_m[chosen], kind="stable")]
    raster = np.zeros((4, *shape), dtype=np.float32)
    raster[:3, rows[order], columns[order]] = points[order].T
    raster[3, rows[order], columns[order]] = 1
    found = returns.of_ranges(range_m, max_range_m) + Losses(
        stored=int(finite.size - len(points)),
        not_finite=int(finite.size - len(points)),
        outside_view=int((in_range & ~inside).sum()),
        merged=len(order) - int(raster[3].sum()),
    )
    return raster, found


def _spherical(points: Float[np.ndarray, "N 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Azimuth and zenith in radians, in the convention of geometry.directions, and range in metres."""
    x, y, z = points.astype(np.float64).T
    range_m = np.sqrt(x**2 + y**2 + z**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.arctan2(-x, y), -np.arcsin(np.clip(z / range_m, -1, 1)), range_m


def _near(azimuth_rad: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """The same directions as angles that are at most half a turn away from the middle of the bounds."""
    middle = sum(bounds) / 2
    return azimuth_rad + 2 * np.pi * np.round((middle - azimuth_rad) / (2 * np.pi))


def _cells(angles: np.ndarray, bounds: tuple[float, float], size: int) -> np.ndarray:
    """The row or column of each angle; outside 0 to size - 1 for angles out of the field of view."""
    low, high = bounds
    if size == 1:
        return np.where((angles >= low) & (angles <= high), 0, -1)
    with np.errstate(invalid="ignore"):
        places = np.round((angles - low) / max(high - low, 1e-9) * (size - 1))
    return np.nan_to_num(np.clip(places, -1, size), nan=-1).astype(np.int64)
