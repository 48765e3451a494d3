"""Reads the content of .pcd files as any writer may have written them; they may be damaged or hostile.

The header decides what is read; versions differ only in their number. N = points of a cloud
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from pypcd4 import PointCloud

from stages.lib.core.errors import UserError, first_line, shortened

MAX_POINT_BYTES = 256
_MAX_HEADER_BYTES = 10_000
_MOVED = 1e-3  # metres, or parts of a quaternion, from which on a viewpoint is not the origin
_ENCODINGS = ("ascii", "binary", "binary_compressed", "binaryscompressed")
# How some compilers print numbers that are none: -nan(ind), 1.#QNAN, -1.#IND, 1.#INF.
_NO_NUMBER = re.compile(rb"[-+]?(nan\(\w*\)|1\.#\w+)", re.IGNORECASE)


@dataclass(frozen=True)
class _Header:
    fields: list[str]
    sizes: list[int]  # bytes of a value
    types: list[str]
    counts: list[int]  # values of a field in a point; a field without values takes no space
    num_points: int
    encoding: str
    viewpoint: list[str]  # position and turn of the sensor; empty if none is given

    @property
    def point_bytes(self) -> int:
        return sum(size * count for size, count in zip(self.sizes, self.counts, strict=True))

    def column(self, axis: str) -> int:
        """The place of an axis among the values of a point."""
        return sum(self.counts[: self.index(axis)])

    def index(self, axis: str) -> int:
        """The place of the field of an axis; some writers use capitals."""
        found = [i for i, name in enumerate(self.fields) if name.lower() == axis and self.counts[i] == 1]
        if not found:
            raise ValueError(f"no field {axis}; its fields are {shortened(' '.join(self.fields))}")
        return found[0]


def parse(content: bytes, place: str, max_points: int) -> Float[np.ndarray, "N 3"]:
    """The points in a .pcd file (ASCII, binary or binary_compressed), as stored.

    Raises:
        UserError: when it is damaged, has too many points, or is without x, y and z.
    """
    header, body = _split(content, place)
    if not (0 <= header.num_points <= max_points and 0 < header.point_bytes <= MAX_POINT_BYTES):
        raise UserError(
            f"{place}: header declares {header.num_points:,} points of {header.point_bytes} bytes; at most "
            f"export.max_pixels ({max_points:,}) points are read"
        )
    if header.encoding.startswith("binary") and header.encoding != "binary" and header.num_points:
        uncompressed = int.from_bytes(body[4:8], "little")
        if uncompressed != header.num_points * header.point_bytes:
            raise UserError(
                f"{place}: {uncompressed:,} bytes for {header.num_points:,} points of {header.point_bytes} bytes; "
                "it is damaged"
            )
    try:
        points = _ascii(header, body) if header.encoding == "ascii" else _binary(header, body)
    except Exception as error:  # numpy and the library raise many kinds of errors on damaged bytes
        raise UserError(f"{place}: unreadable point cloud ({first_line(error)})") from None
    if len(points) != header.num_points:
        raise UserError(f"{place}: {len(points):,} points, but its header declares {header.num_points:,}")
    return points


def is_moved(content: bytes, place: str) -> bool:
    """Whether the header of a .pcd file says that the sensor was not at the origin, or was turned.

    Readers differ in what they make of it: points may be as the sensor saw them, or in the coordinates of a map.

    Raises:
        UserError: when the header is damaged.
    """
    try:
        numbers = [float(word) for word in _split(content, place)[0].viewpoint]
    except ValueError:
        return False
    position, turn = (
        numbers[:3],
        numbers[4:7],
    )  # the turn is a quaternion: without a turn, only its first part is not 0
    return any(abs(number) > _MOVED for number in [*position, *turn])


def _split(content: bytes, place: str) -> tuple[_Header, bytes]:
    """Header and body. Values may be separated by any white space, lines may end in any way."""
    found: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in found:
        end = content.find(b"\n", start, _MAX_HEADER_BYTES)
        if end < 0:
            raise UserError(f"{place}: not a point cloud in PCD format, or its header is damaged")
        words = content[start:end].decode("ascii", "replace").split()
        if words and not words[0].startswith("#"):
            found[words[0].upper()] = words[1:]
        start = end + 1
    try:
        fields = found["FIELDS"]
        counts = [int(word) for word in found.get("COUNT", ["1"] * len(fields))]
        sizes = [int(word) for word in found["SIZE"]]
        if "POINTS" in found:
            num_points = int(found["POINTS"][0])
        else:
            num_points = int(found["WIDTH"][0]) * int(found["HEIGHT"][0])
        encoding = found["DATA"][0].lower()
        types = [word.upper() for word in found["TYPE"]]
        if not len(fields) == len(sizes) == len(types) == len(counts):
            raise ValueError("lists of different lengths")
        if min(counts) < 0 or min(sizes) <= 0 or encoding not in _ENCODINGS:
            raise ValueError("no such size or encoding")
    except (KeyError, ValueError, IndexError):
        raise UserError(f"{place}: not a point cloud in PCD format, or its header is damaged") from None
    viewpoint = found.get("VIEWPOINT", [])
    return _Header(fields, sizes, types, counts, num_points, encoding, viewpoint), content[start:]


def _ascii(header: _Header, body: bytes) -> Float[np.ndarray, "N 3"]:
    width = sum(header.counts)
    columns = [header.column(axis) for axis in "xyz"]
    rows = [row for row in map(bytes.split, body.splitlines()) if row]
    odd = next((row for row in rows if len(row) != width), None)
    if odd is not None:
        raise ValueError(f"a line of {len(odd)} values; its header declares {width}")
    words = [[row[column] for column in columns] for row in rows]
    if not words:
        return np.empty((0, 3), dtype=np.float32)
    try:
        return np.array(words).astype(np.float64).astype(np.float32)
    except ValueError:
        plain = [[b"nan" if _NO_NUMBER.fullmatch(word) else word for word in row] for row in words]
        return np.array(plain).astype(np.float64).astype(np.float32)


def _binary(header: _Header, body: bytes) -> Float[np.ndarray, "N 3"]:
    """By the library, which needs a header of its own dialect."""
    named = {header.index(axis): axis for axis in "xyz"}
    used = [i for i, count in enumerate(header.counts) if count]
    lines = {
        "VERSION": "0.7",
        "FIELDS": " ".join(named.get(i, f"other{i}") for i in used),
        "SIZE": " ".join(str(header.sizes[i]) for i in used),
        "TYPE": " ".join(header.types[i] for i in used),
        "COUNT": " ".join(str(header.counts[i]) for i in used),
        "WIDTH": header.num_points,
        "HEIGHT": 1,
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": header.num_points,
        "DATA": header.encoding,
    }
    text = "".join(f"{key} {value}\n" for key, value in lines.items())
    cloud = PointCloud.from_fileobj(io.BufferedReader(io.BytesIO(text.encode() + body)))
    with np.errstate(over="ignore"):
        return cloud.numpy(("x", "y", "z")).astype(np.float32)
