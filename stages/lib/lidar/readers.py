"""Reads LiDAR files (.npy, .pcd, .fo3d) and array fields, which may be damaged or hostile.

Sizes that a header declares are checked before memory is allocated. Arrays that numpy would unpickle are refused.

    N = points of a cloud
"""

from __future__ import annotations

import functools
import io
import json
import math
import os
import stat
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.lib import format as npy

from stages.lib.core.errors import UserError, first_line, shortened
from stages.lib.lidar import pcd

_MAX_VALUES_PER_PIXEL = 4  # x, y, z, a
_MAX_ITEM_BYTES = 8
_MAX_HEADER_BYTES = 10_000
_MAX_SCENE_BYTES = 1_000_000
_OTHER_CLOUDS = (".bin", ".ply", ".las", ".laz", ".xyz", ".npy", ".npz", ".png", ".jpg", ".jpeg")
# Position, turn and scale of an object in a FiftyOne scene that stays where its file says.
_STILL = {"position": (0.0, 0.0, 0.0), "quaternion": (0.0, 0.0, 0.0, 1.0), "scale": (1.0, 1.0, 1.0)}


def read_array(content: bytes, max_pixels: int, place: str, *, compressed: bool) -> np.ndarray:
    """The array in bytes of numpy's .npy format: a .npy file's, or those of a FiftyOne field (zlib-compressed).

    Raises:
        UserError: when it is damaged, is too large, holds Python objects, or has not the bytes that its shape needs.
    """
    max_bytes = max_pixels * _MAX_VALUES_PER_PIXEL * _MAX_ITEM_BYTES + _MAX_HEADER_BYTES
    try:
        if compressed:
            content = zlib.decompressobj().decompress(content, max_bytes + 1)
        if len(content) > max_bytes:
            raise UserError(
                f"{place}: array of more than {max_bytes:,} bytes; export.max_pixels sets the limit"
            )
        if not content.startswith(npy.MAGIC_PREFIX):
            raise ValueError("not in numpy's .npy format")
        length_bytes = 2 if content[6:7] == b"\x01" else 4
        start = 8 + length_bytes + int.from_bytes(content[8 : 8 + length_bytes], "little")
        shape, fortran_order, dtype = _parse_header(content[: min(start, _MAX_HEADER_BYTES)])
    except UserError:
        raise
    except Exception as error:  # numpy and zlib raise many kinds of errors on damaged bytes
        raise UserError(f"{place}: unreadable array ({first_line(error)})") from None
    if dtype.kind not in "biuf":
        raise UserError(f"{place}: array of type {str(dtype)[:40]}; numbers are needed")
    body = memoryview(content)[start:]
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != len(body):
        raise UserError(
            f"{place}: array of shape {shape} and type {dtype} in {len(body):,} bytes; it is damaged"
        )
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran_order else "C")


@functools.lru_cache(maxsize=64)
def _parse_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type. Cached, because parsing is slow and thousands of arrays have the same header."""
    stream = io.BytesIO(header)
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(stream, max_header_size=_MAX_HEADER_BYTES)


def read_npy(path: Path | str, max_pixels: int) -> np.ndarray:
    """The array in a .npy file; raises as `read_array` does."""
    limit = max_pixels * _MAX_VALUES_PER_PIXEL * _MAX_ITEM_BYTES + _MAX_HEADER_BYTES
    return read_array(_read_bytes(path, limit), max_pixels, str(path), compressed=False)


def read_cloud(path: Path | str, max_pixels: int) -> Float[np.ndarray, "N 3"]:
    """The points of a .pcd file, or of the one in a FiftyOne scene (.fo3d), as stored.

    Raises:
        UserError: when it is missing, damaged, too large, of another format, or without x, y and z.
    """
    path, content = _read_cloud(path, max_pixels)
    return pcd.parse(content, path, max_pixels)


def is_moved(path: Path | str, max_pixels: int) -> bool:
    """Whether the header of a cloud's file says that the sensor was elsewhere; raises as `read_cloud` does."""
    path, content = _read_cloud(path, max_pixels)
    return pcd.is_moved(content, path)


def _read_cloud(path: Path | str, max_pixels: int) -> tuple[str, bytes]:
    """The path of the .pcd file, and its content."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".fo3d":
        return _read_cloud(_cloud_of_scene(Path(path)), max_pixels)
    if suffix in _OTHER_CLOUDS:
        raise UserError(
            f"{path}: a {suffix} file; dataset.lidar.format: pcd reads .pcd files, and .fo3d scenes with one of them"
        )
    return str(path), _read_bytes(path, max_pixels * pcd.MAX_POINT_BYTES)


def _cloud_of_scene(path: Path) -> Path:
    """The .pcd file of a FiftyOne scene; raises UserError unless it has exactly one, which nothing moves."""
    try:
        nodes = [json.loads(_read_bytes(path, _MAX_SCENE_BYTES))]
        clouds = []
        for node in nodes:  # which grows
            nodes += node.get("children", [])
            if node.get("_type") == "PointCloud":
                clouds.append(node["pcdPath"])
            still = [float(value) for key in _STILL for value in node.get(key, _STILL[key])]
            if still != [value for key in _STILL for value in _STILL[key]]:
                raise UserError(
                    f"{path}: a scene that moves, turns or scales its objects; name its .pcd file itself"
                )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: unreadable .fo3d scene ({first_line(error)})") from None
    if len(clouds) != 1 or not str(clouds[0]).lower().endswith(".pcd"):
        raise UserError(f"{path}: a .fo3d scene with {len(clouds)} point clouds; one .pcd file is needed")
    cloud = path.parent / str(clouds[0])
    # As for media: what the dataset's folder does not hold is not read on the word of one of its files.
    if not Path(os.path.realpath(cloud)).is_relative_to(os.path.realpath(path.parent)):
        raise UserError(f"{path}: its point cloud {shortened(cloud)} lies outside the scene's folder")
    return cloud


def _read_bytes(path: Path | str, limit: int) -> bytes:
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path}: not a regular file")
        if found.st_size > limit:
            raise UserError(f"{path}: file of more than {limit:,} bytes; export.max_pixels sets the limit")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: unreadable file ({error.strerror})") from None
