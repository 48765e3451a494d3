"""From a user's LiDAR data, in any of the forms met in the wild, to an XYZA raster of the cache.

Nobody vouches for these files: declared sizes are checked before memory is given, and nothing that
numpy would unpickle is read.

    R, C = rows (azimuth) and columns (zenith) as found;  S = side of the cache's square tensors
    N = points of a cloud
"""

from __future__ import annotations

import functools
import io
import math
import os
import stat
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.lib import format as npy
from pypcd4 import PointCloud

from stages.lib import lidar
from stages.lib.intake.checks import first_line
from stages.lib.terminal import UserError

_MAX_VALUES_PER_PIXEL = 4  # x, y, z, a
_MAX_ITEM_BYTES = 8
_MAX_HEADER_BYTES = 10_000
_MAX_POINT_BYTES = 256


@dataclass(frozen=True)
class Angles:
    """Directions of a range image's rows and columns in radians."""

    azimuth_rad: Float[np.ndarray, "R"]
    zenith_rad: Float[np.ndarray, "C"]


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


def read_array(content: bytes, max_pixels: int, place: str, *, compressed: bool) -> np.ndarray:
    """An array in numpy's .npy format, as FiftyOne's fields (zlib-compressed) and .npy files hold it.

    Raises:
        UserError: when it is damaged, too large, of Python objects, or its bytes don't fit its shape.
    """
    max_bytes = max_pixels * _MAX_VALUES_PER_PIXEL * _MAX_ITEM_BYTES + _MAX_HEADER_BYTES
    try:
        if compressed:
            content = zlib.decompressobj().decompress(content, max_bytes + 1)
        if len(content) > max_bytes:
            raise UserError(f"{place}: array of more than {max_bytes:,} bytes; raise export.max_pixels?")
        length_bytes = 2 if content[6:7] == b"\x01" else 4
        start = 8 + length_bytes + int.from_bytes(content[8 : 8 + length_bytes], "little")
        shape, fortran_order, dtype = _parse_header(content[: min(start, _MAX_HEADER_BYTES)])
    except UserError:
        raise
    except Exception as error:  # numpy and zlib raise whatever the damage leads to
        raise UserError(f"{place}: unreadable array ({first_line(error)})") from None
    if dtype.kind not in "biuf":
        raise UserError(f"{place}: array of type {str(dtype)[:40]}; numbers are needed")
    body = memoryview(content)[start:]
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != len(body):
        raise UserError(f"{place}: array of shape {shape} and type {dtype} in {len(body):,} bytes")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran_order else "C")


@functools.lru_cache(maxsize=64)
def _parse_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type. Thousands of arrays share one header, and parsing it takes longest of all."""
    stream = io.BytesIO(header)
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(stream, max_header_size=_MAX_HEADER_BYTES)


def read_npy(path: Path | str, max_pixels: int) -> np.ndarray:
    """The array in a .npy file; raises as `read_array` does."""
    limit = max_pixels * _MAX_VALUES_PER_PIXEL * _MAX_ITEM_BYTES + _MAX_HEADER_BYTES
    return read_array(_read_bytes(path, limit), max_pixels, str(path), compressed=False)


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
    return lidar.xyza_from_range(range_m, angles.azimuth_rad, angles.zenith_rad, max_range_m)


def read_cloud(path: Path | str, max_pixels: int) -> Float[np.ndarray, "N 3"]:
    """The points of a .pcd file (ASCII, binary or binary_compressed), in metres.

    Raises:
        UserError: when it is missing, damaged, too large, or without x, y and z.
    """
    content = _read_bytes(path, max_pixels * _MAX_POINT_BYTES)
    _require_honest_header(content, path, max_pixels)
    try:
        cloud = PointCloud.from_fileobj(io.BufferedReader(io.BytesIO(content)))
        points = cloud.numpy(("x", "y", "z")).astype(np.float32)
    except Exception as error:  # the library raises whatever the damage leads to
        raise UserError(f"{path}: unreadable point cloud ({first_line(error)})") from None
    if len(points) != cloud.metadata.points:
        raise UserError(f"{path}: {len(points):,} points where its header declares {cloud.metadata.points:,}")
    return points


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


def fitted(raster: Float[np.ndarray, "4 R C"], size: int, orientation: str) -> Float[np.ndarray, "4 S S"]:
    """The raster turned to lie on the picture and sampled to `size` cells a side.

    Rasters are sampled by nearest neighbour, since a mean of two returns is a point in thin air. One
    that is not square gets empty margins first, as pictures do.
    """
    raster = lidar.ORIENTATIONS[orientation](raster)
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


def _spherical(points: Float[np.ndarray, "N 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Azimuth and zenith in radians, in the convention of lidar.directions, and range in metres."""
    x, y, z = points.astype(np.float64).T
    range_m = np.sqrt(x**2 + y**2 + z**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.arctan2(-x, y), -np.arcsin(np.clip(z / range_m, -1, 1)), range_m


def _cells(angles: np.ndarray, bounds: tuple[float, float], size: int) -> np.ndarray:
    low, high = bounds
    return np.round((angles - low) / max(high - low, 1e-9) * (size - 1)).astype(np.int64)


def _read_bytes(path: Path | str, limit: int) -> bytes:
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path}: no regular file")
        if found.st_size > limit:
            raise UserError(f"{path}: file of more than {limit:,} bytes; raise export.max_pixels?")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: unreadable file ({error.strerror})") from None


def _require_honest_header(content: bytes, path: Path | str, max_pixels: int) -> None:
    """Refuses a cloud that declares more points or bytes than may be meant."""
    head, _, body = content[:_MAX_HEADER_BYTES].partition(b"DATA ")
    fields = dict(line.partition(" ")[::2] for line in head.decode("ascii", "replace").splitlines())
    try:
        num_points = int(fields["POINTS"])
        point_bytes = sum(
            int(size) * int(count)
            for size, count in zip(fields["SIZE"].split(), fields["COUNT"].split(), strict=True)
        )
        sizes = [int(size) for size in fields["SIZE"].split()]
        counts = [int(count) for count in fields["COUNT"].split()]
    except (KeyError, ValueError):
        raise UserError(f"{path}: no point cloud in PCD format (its header is damaged)") from None
    plausible = 0 <= num_points <= max_pixels and 0 < point_bytes <= _MAX_POINT_BYTES
    if not plausible or min(sizes) <= 0 or min(counts) <= 0:
        raise UserError(
            f"{path}: header declares {num_points:,} points of {point_bytes} bytes; at most "
            f"export.max_pixels ({max_pixels:,}) points are read"
        )
    if body.startswith(b"binary_compressed"):
        uncompressed = int.from_bytes(body.partition(b"\n")[2][4:8], "little")
        if uncompressed != num_points * point_bytes:
            raise UserError(
                f"{path}: {uncompressed:,} bytes for {num_points:,} points of {point_bytes} bytes each"
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
                return Angles(*(_as_angles(read_npy(path, max_pixels), str(path)) for path in paths))
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
