"""Converts a LiDAR array of any supported format to an XYZA raster, and finds the angles that range images need.

R, C = rows (azimuth) and columns (zenith) as stored;  S = side of the cache's square rasters
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from stages.lib.core.errors import UserError
from stages.lib.lidar import geometry, readers


@dataclass(frozen=True)
class Angles:
    """Directions of a range image's rows and columns in radians."""

    azimuth_rad: Float[np.ndarray, "R"]
    zenith_rad: Float[np.ndarray, "C"]


def from_xyza(array: np.ndarray, max_range_m: float, place: str) -> tuple[Float[np.ndarray, "4 R C"], int]:
    """Raster of a 4 x R x C array (x, y, z in metres; a > 0 at returns), and how many returns are too far away.

    Raises:
        UserError: when the shape is wrong, or values are not finite.
    """
    _require_shape(array, 4, place)
    if not np.isfinite(array[3]).all():
        raise UserError(
            f"{place}: NaN or infinite values in channel a, which marks the returns; correct the array"
        )
    returned = array[3] > 0
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is an error below
        raster = np.where(returned, array, 0).astype(np.float32, copy=False)
    raster[3] = returned
    if not np.isfinite(raster).all():
        count = (~np.isfinite(raster).all(axis=0)).sum()
        raise UserError(f"{place}: NaN or infinite values at {count:,} returns; set a to 0 in these cells")
    # The array itself marks its returns, so far ones are kept; the export warns of them.
    squares_m2 = np.einsum("crk,crk->rk", raster[:3], raster[:3])
    return raster, int((squares_m2 >= max_range_m**2).sum())


def from_xyz(array: np.ndarray, max_range_m: float, place: str) -> Float[np.ndarray, "4 R C"]:
    """Raster of a 3 x R x C array in metres: a cell is a return when it is finite, not the origin, and in range.

    Raises:
        UserError: when the shape is wrong.
    """
    _require_shape(array, 3, place)
    with np.errstate(over="ignore"):
        xyz = array.astype(np.float32)
    returned = np.isfinite(xyz).all(axis=0) & (xyz != 0).any(axis=0)
    returned[returned] = np.linalg.norm(xyz[:, returned], axis=0) < max_range_m
    return np.concatenate([np.where(returned, xyz, 0), returned[None]]).astype(np.float32)


def from_range(
    array: np.ndarray, angles: Angles | None, max_range_m: float, place: str
) -> Float[np.ndarray, "4 R C"]:
    """Raster of R x C ranges in metres: a cell is a return when its range is finite, positive and below the maximum.

    Raises:
        UserError: when the shape is wrong, or the angles are missing or of another number.
    """
    if array.ndim != 2 or 0 in array.shape:
        raise UserError(
            f"{place}: array of shape {array.shape}; a range image needs the shape (rows, columns)"
        )
    if angles is None:
        raise UserError(
            f"{place}: no angles for this range image; put both `azimuth` and `zenith` (radians; or "
            "azimuth_LABEL and zenith_LABEL) into the dataset's info, or as .npy files beside the scans"
        )
    expected = (len(angles.azimuth_rad), len(angles.zenith_rad))
    if array.shape != expected:
        raise UserError(
            f"{place}: range image of shape {array.shape}, but {expected} angles; the two must agree"
        )
    range_m = array.astype(np.float64)
    return geometry.raster_from_range(range_m, angles.azimuth_rad, angles.zenith_rad, max_range_m)


def fitted(raster: Float[np.ndarray, "4 R C"], size: int, orientation: str) -> Float[np.ndarray, "4 S S"]:
    """The raster, turned so that it covers the image, with `size` cells a side.

    Sampling takes the nearest cell: the mean of two returns would be a point where nothing is. A raster that is
    not square first gets empty margins, as images do.
    """
    raster = geometry.ORIENTATIONS[orientation](raster)
    _, height, width = raster.shape
    if (height, width) == (size, size):
        return raster
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((4, side, side), dtype=raster.dtype)
    square[:, top : top + height, left : left + width] = raster
    picks = ((np.arange(size) + 0.5) * side / size).astype(int)
    return square[:, picks][:, :, picks]


def _require_shape(array: np.ndarray, channels: int, place: str) -> None:
    if array.ndim != 3 or array.shape[0] != channels or 0 in array.shape:
        raise UserError(
            f"{place}: array of shape {array.shape}; dataset.lidar.format {'xyza' if channels == 4 else 'xyz'} "
            f"needs ({channels}, H, W)"
        )


def find_angles(
    info: Mapping[str, object], folder: Path, scan_path: Path | None, label: str, max_pixels: int
) -> Angles | None:
    """The angles of a range image, or None when the dataset has none.

    Looks for `azimuth_LABEL` and `zenith_LABEL` first, then for `azimuth` and `zenith`: each time in the dataset's
    info, then as .npy files in the scan's folder and in those above it, up to the dataset's folder.

    Raises:
        UserError: when the angles are not a list of radians.
    """
    for suffix in (f"_{label}", ""):
        names = (f"azimuth{suffix}", f"zenith{suffix}")
        if all(name in info for name in names):
            return Angles(*(_as_angles(info[name], f"{folder}: info['{name}']") for name in names))
        for place in dict.fromkeys([*_parents(scan_path, folder), folder]):
            paths = [place / f"{name}.npy" for name in names]
            if all(_is_own_file(path) for path in paths):
                return Angles(*(_as_angles(readers.read_npy(path, max_pixels), str(path)) for path in paths))
    return None


def _is_own_file(path: Path) -> bool:
    """Whether the file lies in the folder of its path: a label in its name may contain `..`, and it may be a link."""
    try:
        return (
            path.is_file() and path.resolve() == path.parent.resolve() / path.name and ".." not in path.parts
        )
    except OSError:  # no file can have such a name
        return False


def _parents(scan_path: Path | None, folder: Path) -> list[Path]:
    """The scan's folder and those above it, inside the dataset's folder."""
    if scan_path is None:
        return []
    inside = [parent for parent in scan_path.absolute().parents if parent.is_relative_to(folder.absolute())]
    return inside or [scan_path.parent]


def _as_angles(values: object, place: str) -> Float[np.ndarray, "R"]:
    try:
        angles = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{place}: not a list of angles; a list of radians is needed") from None
    if angles.ndim != 1 or not np.isfinite(angles).all():
        raise UserError(f"{place}: angles of shape {angles.shape}; a list of radians is needed")
    if (np.abs(angles) > 2 * np.pi).any():
        raise UserError(
            f"{place}: angles of up to {np.abs(angles).max():.4g}; radians are needed, not degrees"
        )
    return angles
