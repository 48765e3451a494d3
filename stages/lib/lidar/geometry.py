"""LiDAR geometry: directions of rays, XYZA rasters from range images, orientations of rasters.

Axes: x to the right, y forward, z up, all in metres. In a raster each row has one azimuth and each column
one zenith angle, as in the course's data.

    R = rows (azimuth), C = columns (zenith), H, W = height and width of a raster in any orientation
    N = points
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Num

# Turns a raster so that it covers the camera's image. Each acts on the last two axes; rotations are clockwise.
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

# Axes of stored coordinates: for x to the right, y forward and z up, the stored axis and its sign.
AXES: dict[str, tuple[tuple[int, int], ...]] = {
    "lidar": ((0, 1), (1, 1), (2, 1)),
    "forward-left-up": ((1, -1), (0, 1), (2, 1)),  # ROS, KITTI, nuScenes, Waymo
    "camera": ((0, 1), (2, 1), (1, -1)),  # x to the right, y down, z forward
}


def from_axes(xyz: Num[np.ndarray, "3 ..."], axes: str) -> Num[np.ndarray, "3 ..."]:
    """Coordinates in this module's axes; `axes` (a key of AXES) says what the stored ones mean."""
    if axes == "lidar":
        return xyz
    return np.stack([xyz[stored] if sign > 0 else -xyz[stored] for stored, sign in AXES[axes]])


def turned_shape(shape: tuple[int, int], orientation: str) -> tuple[int, int]:
    """Height and width after a turn, which are also those before it: no turn but keeps or swaps them."""
    height, width = ORIENTATIONS[orientation](np.empty(shape, dtype=bool)).shape
    return height, width


def directions(
    azimuth_rad: Float[np.ndarray, "R"], zenith_rad: Float[np.ndarray, "C"]
) -> Float[np.ndarray, "R C 3"]:
    """Unit vectors of the LiDAR's rays, by the formula of the course's dataset."""
    azimuth, zenith = np.meshgrid(azimuth_rad, zenith_rad, indexing="ij")
    return np.stack(
        [np.sin(-azimuth) * np.cos(-zenith), np.cos(-azimuth) * np.cos(-zenith), np.sin(-zenith)],
        axis=-1,
    )


def raster_from_range(
    range_m: Float[np.ndarray, "R C"],
    azimuth_rad: Float[np.ndarray, "R"],
    zenith_rad: Float[np.ndarray, "C"],
    max_range_m: float,
) -> Float[np.ndarray, "4 R C"]:
    """XYZA raster of a range image: x, y, z in metres, and a = 1 at returns.

    A cell is a return when its range is finite, positive and below `max_range_m`. All other cells are zero in
    all four channels.
    """
    returned = np.isfinite(range_m) & (range_m > 0) & (range_m < max_range_m)
    distance = np.where(returned, range_m, 0.0)
    xyz = directions(azimuth_rad, zenith_rad) * distance[..., None]
    return np.concatenate([np.moveaxis(xyz, -1, 0), returned[None]]).astype(np.float32)


def ranges(raster: Float[np.ndarray, "4 H W"]) -> Float[np.ndarray, "N"]:
    """Ranges in metres of the raster's N returns."""
    return np.linalg.norm(raster[:3, raster[3] > 0], axis=0)
