"""Reads LiDAR files (.npy, .pcd) and array fields, which may be damaged or hostile.

Sizes that a header declares are checked before memory is allocated. Arrays that numpy would unpickle are refused.

    N = points of a cloud
"""

from __future__ import annotations

import functools
import io
import math
import os
import stat
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.lib import format as npy
from pypcd4 import PointCloud

from stages.lib.core.errors import UserError, first_line

_MAX_VALUES_PER_PIXEL = 4  # x, y, z, a
_MAX_ITEM_BYTES = 8
_MAX_HEADER_BYTES = 10_000
_MAX_POINT_BYTES = 256


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
    """The points of a .pcd file (ASCII, binary or binary_compressed), in metres.

    Raises:
        UserError: when it is missing, damaged, too large, or without x, y and z.
    """
    content = _read_bytes(path, max_pixels * _MAX_POINT_BYTES)
    _require_honest_header(content, path, max_pixels)
    try:
        cloud = PointCloud.from_fileobj(io.BufferedReader(io.BytesIO(content)))
        points = cloud.numpy(("x", "y", "z")).astype(np.float32)
    except Exception as error:  # the library raises many kinds of errors on damaged bytes
        raise UserError(f"{path}: unreadable point cloud ({first_line(error)})") from None
    if len(points) != cloud.metadata.points:
        raise UserError(f"{path}: {len(points):,} points, but its header declares {cloud.metadata.points:,}")
    return points


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


def _require_honest_header(content: bytes, path: Path | str, max_pixels: int) -> None:
    """Raises UserError when the header of a cloud is damaged or declares too many points or bytes."""
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
        raise UserError(f"{path}: not a point cloud in PCD format, or its header is damaged") from None
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
                f"{path}: {uncompressed:,} bytes for {num_points:,} points of {point_bytes} bytes; it is damaged"
            )
