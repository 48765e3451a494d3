"""LiDAR geometry: range images, XYZA rasters, orientations.

Axes: x to the right, y forward, z up, all in metres. A raster's rows step through azimuth and its
columns through zenith, the convention of the course's sensor.

    R = rows (azimuth), C = columns (zenith), H, W = height and width of a raster in any orientation
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

# A raster may lie turned against the camera's image. Each name says what is done to the raster,
# as numpy does it on the last two axes; rotations are clockwise.
ORIENTATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as-is": lambda raster: raster,
    "rotate-90": lambda raster: np.rot90(raster, k=-1, axes=(-2, -1)),
    "rotate-180": lambda raster: np.rot90(raster, k=2, axes=(-2, -1)),
    "rotate-270": lambda raster: np.rot90(raster, k=1, axes=(-2, -1)),
    "flip-rows": lambda raster: np.flip(raster, axis=-2),
    "flip-columns": lambda raster: np.flip(raster, axis=-1),
    "transpose": lambda raster: np.swapaxes(raster, -2, -1),
    "anti-transpose": lambda raster: np.rot90(raster, k=2, axes=(-2, -1)).swapaxes(-2, -1),
}


def directions(
    azimuth_rad: Float[np.ndarray, "R"], zenith_rad: Float[np.ndarray, "C"]
) -> Float[np.ndarray, "R C 3"]:
    """Unit vectors of the rays of a scanner, by the formula of the course's dataset."""
    azimuth, zenith = np.meshgrid(azimuth_rad, zenith_rad, indexing="ij")
    return np.stack(
        [np.sin(-azimuth) * np.cos(-zenith), np.cos(-azimuth) * np.cos(-zenith), np.sin(-zenith)],
        axis=-1,
    )


def xyza_from_range(
    range_m: Float[np.ndarray, "R C"],
    azimuth_rad: Float[np.ndarray, "R"],
    zenith_rad: Float[np.ndarray, "C"],
    max_range_m: float,
) -> Float[np.ndarray, "4 R C"]:
    """XYZA raster of a range image: x, y, z in metres and a = 1 where the range is a real return.

    A cell is a return when its range is finite, positive and below `max_range_m`; every other cell
    is zero in all four channels.
    """
    returned = np.isfinite(range_m) & (range_m > 0) & (range_m < max_range_m)
    distance = np.where(returned, range_m, 0.0)
    xyz = directions(azimuth_rad, zenith_rad) * distance[..., None]
    return np.concatenate([np.moveaxis(xyz, -1, 0), returned[None]]).astype(np.float32)


def ranges(xyza: Float[np.ndarray, "4 H W"]) -> Float[np.ndarray, "N"]:
    """Ranges in metres of the raster's N returns."""
    return np.linalg.norm(xyza[:3, xyza[3] > 0], axis=0)
