"""Projects a point cloud to an XYZA raster.

N = points of a cloud;  S = side of the square raster, whose rows are azimuths and whose columns are zeniths
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class FieldOfView:
    """The angles of the raster's first and last row and column, in radians."""

    azimuth_rad: tuple[float, float]
    zenith_rad: tuple[float, float]

    def degrees(self) -> dict[str, list[float]]:
        """In the form of `dataset.lidar.field_of_view_deg` of params.yaml."""
        return {
            "azimuth": np.rad2deg(self.azimuth_rad).tolist(),
            "zenith": np.rad2deg(self.zenith_rad).tolist(),
        }


def field_of_view(points: Float[np.ndarray, "N 3"], max_range_m: float) -> FieldOfView | None:
    """The smallest field of view that contains all points in range; None when no point is."""
    azimuth, zenith, range_m = _spherical(points)
    seen = np.isfinite(range_m) & (range_m > 0) & (range_m < max_range_m)
    if not seen.any():
        return None
    azimuth, zenith = azimuth[seen], zenith[seen]
    return FieldOfView(
        (float(azimuth.min()), float(azimuth.max())), (float(zenith.min()), float(zenith.max()))
    )


def from_cloud(
    points: Float[np.ndarray, "N 3"], view: FieldOfView, size: int, max_range_m: float
) -> Float[np.ndarray, "4 S S"]:
    """XYZA raster of a cloud by spherical projection; of several points in one cell the nearest is kept.

    A cell holds the coordinates of its point. Three kinds of points are left out: those outside the field of view,
    those out of range, and those without finite coordinates (organised clouds mark rays without return so).
    """
    points = points[np.isfinite(points).all(axis=1)]
    azimuth, zenith, range_m = _spherical(points)
    rows = _cells(azimuth, view.azimuth_rad, size)
    columns = _cells(zenith, view.zenith_rad, size)
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    inside &= (range_m > 0) & (range_m < max_range_m)
    # Far points first: the nearest point of a cell is written last.
    order = np.flatnonzero(inside)[np.argsort(-range_m[inside], kind="stable")]
    raster = np.zeros((4, size, size), dtype=np.float32)
    raster[:3, rows[order], columns[order]] = points[order].T
    raster[3, rows[order], columns[order]] = 1
    return raster


def _spherical(points: Float[np.ndarray, "N 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Azimuth and zenith in radians, in the convention of geometry.directions, and range in metres."""
    x, y, z = points.astype(np.float64).T
    range_m = np.sqrt(x**2 + y**2 + z**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.arctan2(-x, y), -np.arcsin(np.clip(z / range_m, -1, 1)), range_m


def _cells(angles: np.ndarray, bounds: tuple[float, float], size: int) -> np.ndarray:
    """The row or column of each angle; outside 0 to size - 1 for angles out of the field of view."""
    low, high = bounds
    return np.round((angles - low) / max(high - low, 1e-9) * (size - 1)).astype(np.int64)
