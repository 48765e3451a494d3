"""Converts a LiDAR array of any supported format to an XYZA raster, and finds the angles that range images need.

R, C = rows (azimuth) and columns (zenith) as stored;  H, W = height and width after the turn
S = side of the cache's square rasters
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from stages.lib.core.errors import UserError
from stages.lib.lidar import geometry, readers, returns
from stages.lib.lidar.returns import Losses


@dataclass(frozen=True)
class Angles:
    """Directions of a range image's rows and columns in radians."""

    azimuth_rad: Float[np.ndarray, "R"]
    zenith_rad: Float[np.ndarray, "C"]


@dataclass(frozen=True)
class Scan:
    """A raster as stored, and what became of its returns."""

    raster: Float[np.ndarray, "4 R C"]
    losses: Losses
    num_far: int = 0  # returns that were kept although they are at the maximum range or beyond
    num_at_origin: int = 0  # returns without a direction: x, y and z are zero


def from_xyza(
    array: np.ndarray, max_range_m: float, place: str, *, axes: str = "lidar", unit_m: float = 1.0
) -> Scan:
    """Raster of a 4 x R x C array (x, y, z; a > 0 at returns).

    Args:
        axes: what the coordinates mean, a key of geometry.AXES.
        unit_m: metres in a unit of the coordinates.

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
    if axes != "lidar" or unit_m != 1:
        raster[:3] = _in_metres(geometry.from_axes(raster[:3], axes), unit_m)
    raster[3] = returned
    if not np.isfinite(raster).all():
        count = (~np.isfinite(raster).all(axis=0)).sum()
        raise UserError(f"{place}: NaN or infinite values at {count:,} returns; set a to 0 in these cells")
    # The array itself marks its returns, so far ones are kept; the export warns of them.
    squares_m2 = np.einsum("crk,crk->rk", raster[:3], raster[:3])
    stored = int(np.count_nonzero(returned))
    return Scan(
        raster,
        Losses(stored),
        num_far=int(np.count_nonzero(squares_m2 >= max_range_m**2)),
        num_at_origin=stored - int(np.count_nonzero(squares_m2 > 0)),
    )


def from_xyz(
    array: np.ndarray, max_range_m: float, place: str, *, axes: str = "lidar", unit_m: float = 1.0
) -> Scan:
    """Raster of a 3 x R x C array: a cell is a return when it is finite, not the origin, and in range.

    Args and errors are those of `from_xyza`.
    """
    _require_shape(array, 3, place)
    with np.errstate(over="ignore"):
        xyz = _in_metres(geometry.from_axes(array.astype(np.float32), axes), unit_m)
    finite = np.isfinite(xyz).all(axis=0)
    range_m = np.where(finite, np.linalg.norm(xyz.astype(np.float64), axis=0), np.nan)
    returned = (range_m > 0) & (range_m < max_range_m)
    raster = np.concatenate([np.where(returned, xyz, 0), returned[None]]).astype(np.float32)
    return Scan(raster, returns.of_ranges(range_m, max_range_m))


def _in_metres(values: np.ndarray, unit_m: float) -> np.ndarray:
    return values if unit_m == 1 else values * np.float32(unit_m)


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
        swapped = "; its rows must be azimuths: store the transpose" if array.T.shape == expected else ""
        raise UserError(
            f"{place}: range image of shape {array.shape}, but {expected} angles; the two must agree{swapped}"
        )
    range_m = array.astype(np.float64)
    return geometry.raster_from_range(range_m, angles.azimuth_rad, angles.zenith_rad, max_range_m)


def fitted(
    raster: Float[np.ndarray, "4 R C"], shape: tuple[int, int], size: int, orientation: str
) -> tuple[Float[np.ndarray, "4 S S"], int]:
    """The raster, turned so that it covers the image, with `size` cells a side; and how many returns merged.

    It fills the cells that the image's pixels fill; the margins are empty. A cell that several stored ones fall
    into holds the nearest return of them: their mean would be a point where nothing is, and to take every n-th
    would lose whole objects. Where there are fewer stored cells, each fills several.

    Args:
        shape: height and width of the image in the cache, without its margins.
    """
    raster = geometry.ORIENTATIONS[orientation](raster)
    if raster.shape[1:] == shape == (size, size):
        return raster, 0
    raster, merged = _reduced(raster, shape)
    rows, columns = (
        ((np.arange(wanted) + 0.5) * found / wanted).astype(int)
        for wanted, found in zip(shape, raster.shape[1:], strict=True)
    )
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    square = np.zeros((4, size, size), dtype=raster.dtype)
    square[:, top : top + shape[0], left : left + shape[1]] = raster[:, rows][:, :, columns]
    return square, merged


def _reduced(raster: Float[np.ndarray, "4 H W"], most: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The raster with at most so many rows and columns, each cell with its nearest return; and those merged."""
    _, height, width = raster.shape
    shape = (min(height, most[0]), min(width, most[1]))
    if shape == (height, width):
        return raster, 0
    rows, columns = np.nonzero(raster[3])
    found = raster[:, rows, columns]
    order = np.argsort(-np.linalg.norm(found[:3], axis=0), kind="stable")  # the nearest one is written last
    reduced = np.zeros((4, *shape), dtype=raster.dtype)
    reduced[:, rows[order] * shape[0] // height, columns[order] * shape[1] // width] = found[:, order]
    return reduced, len(order) - int(np.count_nonzero(reduced[3]))


def _require_shape(array: np.ndarray, channels: int, place: str) -> None:
    if array.ndim != 3 or array.shape[0] != channels or 0 in array.shape:
        raise UserError(
            f"{place}: array of shape {array.shape}; dataset.lidar.format {'xyza' if channels == 4 else 'xyz'} "
            f"needs ({channels}, H, W)"
        )


def find_angles(
    info: Mapping[str, object],
    folder: Path,
    scan_path: Path | None,
    label: str,
    max_pixels: int,
    unit: str = "rad",
) -> Angles | None:
    """The angles of a range image, or None when the dataset has none.

    Looks for `azimuth_LABEL` and `zenith_LABEL` first, then for `azimuth` and `zenith`: each time in the dataset's
    info, then as .npy files in the scan's folder and in those above it, up to the dataset's folder.

    Args:
        unit: of the stored angles, "rad" or "deg".

    Raises:
        UserError: when the angles are not a list of numbers, or no angles of this unit.
    """
    for suffix in (f"_{label}", ""):
        names = (f"azimuth{suffix}", f"zenith{suffix}")
        if all(name in info for name in names):
            places = [f"{folder}: info['{name}']" for name in names]
            return _angles([info[name] for name in names], places, unit)
        for place in dict.fromkeys([*_parents(scan_path, folder), folder]):
            paths = [place / f"{name}.npy" for name in names]
            if all(_is_own_file(path) for path in paths):
                arrays = [readers.read_npy(path, max_pixels) for path in paths]
                return _angles(arrays, [str(path) for path in paths], unit)
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


def _angles(values: Sequence[object], places: list[str], unit: str) -> Angles:
    """Azimuths and zeniths in radians."""
    azimuth, zenith = (_as_angles(value, place) for value, place in zip(values, places, strict=True))
    largest = (2 * np.pi, np.pi / 2) if unit == "rad" else (360.0, 90.0)
    for angles, place, most in zip((azimuth, zenith), places, largest, strict=True):
        if angles.size and np.abs(angles).max() > most + 1e-3:
            asked = "radians are needed, not degrees (or set dataset.lidar.angle_unit: deg)"
            raise UserError(
                f"{place}: angles of up to {np.abs(angles).max():.4g}; {asked if unit == 'rad' else 'degrees'}, "
                f"at most {most:.4g} from the horizon or from straight ahead"
            )
    if unit == "rad":
        return Angles(azimuth, zenith)
    return Angles(np.deg2rad(azimuth), np.deg2rad(zenith))


def _as_angles(values: object, place: str) -> Float[np.ndarray, "R"]:
    try:
        angles = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{place}: not a list of angles; a list of radians is needed") from None
    if angles.ndim != 1 or not np.isfinite(angles).all():
        raise UserError(f"{place}: angles of shape {angles.shape}; a list of radians is needed")
    return angles
