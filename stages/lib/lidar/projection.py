"""Projects a point cloud to an XYZA raster.

R, C = rows (azimuth) and columns (zenith);  N = points of a cloud
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class FieldOfView:
    """The angles that a rasterised cloud's first and last cells look at, in radians."""

    azimuth_rad: tuple[float, float]
    zenith_rad: tuple[float, float]

    def degrees(self) -> dict[str, list[float]]:
        """As `dataset.lidar.field_of_view_deg` of params.yaml takes it."""
        return {
            "azimuth": np.rad2deg(self.azimuth_rad).tolist(),
            "zenith": np.rad2deg(self.zenith_rad).tolist(),
        }


def field_of_view(points: Float[np.ndarray, "N 3"], max_range_m: float) -> FieldOfView | None:
    """The least field of view that holds all points within reach; None where there is none."""
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
    """Spherical projection of a cloud: rows are azimuths, columns zeniths; the nearest return wins.

    A cell keeps the point's own coordinates. Points outside the field of view or the sensor's reach, and
    those without finite coordinates, which is how organised clouds mark a ray without return, are left out.
    """
    points = points[np.isfinite(points).all(axis=1)]
    azimuth, zenith, range_m = _spherical(points)
    rows = _cells(azimuth, view.azimuth_rad, size)
    columns = _cells(zenith, view.zenith_rad, size)
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    inside &= (range_m > 0) & (range_m < max_range_m)
    # Far points first, so that the nearest is written last.
    order = np.flatnonzero(inside)[np.argsort(-range_m[inside], kind="stable")]
    raster = np.zeros((4, size, size), dtype=np.float32)
    raster[:3, rows[order], columns[order]] = points[order].T
    raster[3, rows[order], columns[order]] = 1
    return raster


def _spherical(points: Float[np.ndarray, "N 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Azimuth and zenith in radians, in the convention of lidar.directions, and range in metres."""
    x, y, z = points.astype(np.float64).T
    range_m = np.sqrt(x**2 + y**2 + z**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.arctan2(-x, y), -np.arcsin(np.clip(z / range_m, -1, 1)), range_m


def _cells(angles: np.ndarray, bounds: tuple[float, float], size: int) -> np.ndarray:
    low, high = bounds
    return np.round((angles - low) / max(high - low, 1e-9) * (size - 1)).astype(np.int64)
