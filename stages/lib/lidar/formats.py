"""From a scan in any supported form to an XYZA raster of the cache.

R, C = rows (azimuth) and columns (zenith) as found;  S = side of the cache's square tensors
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
    """4 x R x C: coordinates in metres, and a > 0 where there is a return; also how many are too far."""
    _require_shape(array, 4, place)
    if not np.isfinite(array[3]).all():
        raise UserError(f"{place}: NaN or infinite values in channel a, which says where returns are")
    returned = array[3] > 0
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is told
        raster = np.where(returned, array, 0).astype(np.float32, copy=False)
    raster[3] = returned
    if not np.isfinite(raster).all():
        count = (~np.isfinite(raster).all(axis=0)).sum()
        raise UserError(f"{place}: NaN or infinite values at {count:,} returns")
    # The array itself says what is a return, so a far one stays; that it is far is worth a warning.
    squares_m2 = np.einsum("crk,crk->rk", raster[:3], raster[:3])
    return raster, int((squares_m2 >= max_range_m**2).sum())


def from_xyz(array: np.ndarray, max_range_m: float, place: str) -> Float[np.ndarray, "4 R C"]:
    """3 x R x C: a cell is a return when it is finite, not the origin, and in range."""
    _require_shape(array, 3, place)
    with np.errstate(over="ignore"):
        xyz = array.astype(np.float32)
    returned = np.isfinite(xyz).all(axis=0) & (xyz != 0).any(axis=0)
    returned[returned] = np.linalg.norm(xyz[:, returned], axis=0) < max_range_m
    return np.concatenate([np.where(returned, xyz, 0), returned[None]]).astype(np.float32)


def from_range(
    array: np.ndarray, angles: Angles | None, max_range_m: float, place: str
) -> Float[np.ndarray, "4 R C"]:
    """R x C ranges in metres; a range that is not finite, positive and in reach is no return."""
    if array.ndim != 2 or 0 in array.shape:
        raise UserError(f"{place}: array of shape {array.shape}; a range image has the shape (rows, columns)")
    if angles is None:
        raise UserError(
            f"{place}: no angles for this range image; put both `azimuth` and `zenith` (radians; or "
            "azimuth_LABEL and zenith_LABEL) into the dataset's info, or as .npy files beside the scans"
        )
    expected = (len(angles.azimuth_rad), len(angles.zenith_rad))
    if array.shape != expected:
        raise UserError(f"{place}: range image of shape {array.shape}, but {expected} angles")
    range_m = array.astype(np.float64)
    return geometry.xyza_from_range(range_m, angles.azimuth_rad, angles.zenith_rad, max_range_m)


def fitted(raster: Float[np.ndarray, "4 R C"], size: int, orientation: str) -> Float[np.ndarray, "4 S S"]:
    """The raster turned to lie on the picture and sampled to `size` cells a side.

    Rasters are sampled by nearest neighbour, since a mean of two returns is a point in thin air. One
    that is not square gets empty margins first, as pictures do.
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
    info: Mapping[str, object], folder: Path, scan: Path | None, label: str, max_pixels: int
) -> Angles | None:
    """The angles of a range image, from where datasets keep them; None when they are nowhere.

    First `azimuth_LABEL` and `zenith_LABEL`, then `azimuth` and `zenith`: in the dataset's info, or as .npy
    files in the scan's folder or in one above it, up to the dataset's.

    Raises:
        UserError: when what is found there is no list of numbers.
    """
    for suffix in (f"_{label}", ""):
        names = (f"azimuth{suffix}", f"zenith{suffix}")
        if all(name in info for name in names):
            return Angles(*(_as_angles(info[name], f"{folder}: info['{name}']") for name in names))
        for place in dict.fromkeys([*_parents(scan, folder), folder]):
            paths = [place / f"{name}.npy" for name in names]
            if all(_is_own_file(path) for path in paths):
                return Angles(*(_as_angles(readers.read_npy(path, max_pixels), str(path)) for path in paths))
    return None


def _is_own_file(path: Path) -> bool:
    """Whether a file lies where its path says: names come from labels, which might lead elsewhere."""
    try:
        return (
            path.is_file() and path.resolve() == path.parent.resolve() / path.name and ".." not in path.parts
        )
    except OSError:  # no file can have such a name
        return False


def _parents(scan: Path | None, folder: Path) -> list[Path]:
    """The scan's folder and those above it that lie in the dataset's."""
    if scan is None:
        return []
    inside = [parent for parent in scan.absolute().parents if parent.is_relative_to(folder.absolute())]
    return inside or [scan.parent]


def _as_angles(values: object, place: str) -> Float[np.ndarray, "R"]:
    try:
        angles = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{place}: no list of angles") from None
    if angles.ndim != 1 or not np.isfinite(angles).all():
        raise UserError(f"{place}: angles of shape {angles.shape}; a list of radians is needed")
    if (np.abs(angles) > 2 * np.pi).any():
        raise UserError(
            f"{place}: angles of up to {np.abs(angles).max():.4g}; radians are needed, not degrees"
        )
    return angles
