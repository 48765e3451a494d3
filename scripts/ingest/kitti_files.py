"""Reads the files of KITTI's object data: labels, calibrations, clouds, and the lists of its frames.

N = points of a cloud, or those of them that lie in the picture
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from scripts.ingest.cutting import Box, LabelledObject, PictureReturns, Scan
from scripts.ingest.text_files import read_lines
from stages.lib.core.errors import UserError, shortened

DONT_CARE = "DontCare"  # regions without labels

_LABEL_FIELDS = (15, 16)  # the 16th is a detector's score
_POINT_BYTES = 16  # x, y, z and reflectance as float32
# The matrices of a calibration: shape and names, which differ between the parts of KITTI.
_MATRICES = {
    "projection": ((3, 4), ("P2",)),
    "rectification": ((3, 3), ("R0_rect", "R_rect")),
    "velodyne_to_camera": ((3, 4), ("Tr_velo_to_cam", "Tr_velo_cam")),
}


@dataclass(frozen=True)
class Calibration:
    """The matrices that lead from a cloud to the left colour camera's picture.

    `rectification` and `velodyne_to_camera` lead to camera axes (x right, y down, z forward; metres), in which labels
    give locations; `projection` leads on to homogeneous pixels.
    """

    projection: Float[np.ndarray, "3 4"]
    rectification: Float[np.ndarray, "3 3"]
    velodyne_to_camera: Float[np.ndarray, "3 4"]


@dataclass(frozen=True)
class KittiScan(Scan):
    """The cloud and the calibration of one frame."""

    cloud_path: Path
    calibration_path: Path

    def returns(self, width: int, height: int, max_pixels: int) -> PictureReturns:
        """The returns in a picture of this size in pixels, in camera axes; those behind the camera are dropped.

        Raises:
            UserError: when cloud or calibration are missing or damaged.
        """
        calibration = read_calibration(self.calibration_path)
        return project(read_cloud(self.cloud_path, max_pixels), calibration, width, height)


def project(
    points_m: Float[np.ndarray, "N 3"], calibration: Calibration, width: int, height: int
) -> PictureReturns:
    """The points of a cloud (x forward, y left, z up) that lie in a picture of this size in pixels."""
    to_camera = calibration.rectification @ calibration.velodyne_to_camera
    to_pixels = calibration.projection[:, :3] @ to_camera
    to_pixels[:, 3] += calibration.projection[:, 3]
    points_m = points_m[np.isfinite(points_m).all(axis=1)].astype(np.float64)
    pixels = _moved(points_m, to_pixels)
    ahead = pixels[2] > 0
    points_m, (columns, rows, depth_m) = points_m[ahead], pixels[:, ahead]
    column_px, row_px = columns / depth_m, rows / depth_m
    inside = (column_px >= 0) & (column_px < width) & (row_px >= 0) & (row_px < height)
    xyz_m = _moved(points_m[inside], to_camera).T
    return PictureReturns(column_px[inside], row_px[inside], depth_m[inside], xyz_m)


def _moved(points_m: Float[np.ndarray, "N 3"], matrix: Float[np.ndarray, "3 4"]) -> Float[np.ndarray, "3 N"]:
    # Not by @, whose threads would get in the way of the other processes.
    return np.einsum("ij,nj->in", matrix[:, :3], points_m) + matrix[:, 3:]


def read_cloud(path: Path, max_points: int) -> Float[np.ndarray, "N 3"]:
    """The points of a velodyne/*.bin file in metres, without their reflectance.

    Raises:
        UserError: when it is missing, too large, or no sequence of points.
    """
    try:
        num_bytes = os.path.getsize(path)
        if num_bytes % _POINT_BYTES:
            raise UserError(f"{path}: {num_bytes:,} bytes, but a point has {_POINT_BYTES}; it is damaged")
        if num_bytes > max_points * _POINT_BYTES:
            raise UserError(f"{path}: more points than export.max_pixels ({max_points:,})")
        return np.fromfile(path, dtype="<f4").reshape(-1, 4)[:, :3]
    except OSError as error:
        raise UserError(f"{path}: unreadable cloud ({error.strerror})") from None


def read_calibration(path: Path) -> Calibration:
    """The matrices of a calib/*.txt file: a line for each, with its name and its numbers row by row.

    Raises:
        UserError: when it is missing, or a matrix is missing or damaged.
    """
    numbers: dict[str, tuple[int, list[str]]] = {}
    for number, line in enumerate(read_lines(path), 1):
        first, *values = line.split() or [""]
        numbers[first.removesuffix(":")] = (number, values)
    matrices = {}
    for key, (shape, names) in _MATRICES.items():
        name = next((name for name in names if name in numbers), None)
        if name is None:
            raise UserError(f"{path}: no {' or '.join(names)}")
        number, values = numbers[name]
        matrices[key] = _matrix(values, shape, f"{path}:{number}: {name}")
    return Calibration(**matrices)


def _matrix(values: list[str], shape: tuple[int, int], place: str) -> Float[np.ndarray, "R C"]:
    try:
        matrix = np.array([float(value) for value in values])
    except ValueError:
        raise UserError(f"{place} needs numbers") from None
    if len(matrix) != math.prod(shape) or not np.isfinite(matrix).all():
        raise UserError(f"{place} needs {math.prod(shape)} finite numbers; it has {len(matrix)}")
    return matrix.reshape(shape)


def read_labels(path: Path, left_out: list[str]) -> list[LabelledObject]:
    """The objects of a label_2/*.txt file, also those called DontCare; damaged lines are listed as left out.

    Each has the fields `distance_m` (of the camera from the middle of the 3D box's bottom), `occlusion` and
    `truncation`.

    Raises:
        UserError: when it is unreadable.
    """
    objects = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            objects.append(_parse_label(line))
        except ValueError as error:
            left_out.append(f"{path}:{number}: {error}")
    return objects


def _parse_label(line: str) -> LabelledObject:
    label, *words = line.split()
    if len(words) + 1 not in _LABEL_FIELDS:
        raise ValueError(f"{len(words) + 1} fields; a label has 15, or 16 with a score")
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"no finite numbers after '{shortened(label)}'")
    truncation, occlusion, _, left, top, right, bottom, _, _, _, x, y, z = values[:13]
    if not (left < right and top < bottom):
        raise ValueError(
            f"box from {left:g}, {top:g} to {right:g}, {bottom:g}; left, top, right, bottom are needed"
        )
    fields = {"distance_m": math.hypot(x, y, z), "occlusion": int(occlusion), "truncation": truncation}
    return LabelledObject(label, Box(left, top, right, bottom), fields)


def read_drives(path: Path) -> dict[str, str]:
    """The drive of each frame, from lines of the form `FRAME DRIVE` or from the development kit's train_mapping.txt.

    That has lines of the form `DATE DRIVE FRAME-IN-DRIVE`. The numbers in train_rand.txt beside it say which of its
    lines, counted from 1, belongs to frame 000000, 000001 and so on.

    Raises:
        UserError: when a file is missing, or has another form.
    """
    lines = [line.split() for line in read_lines(path)]
    for number, words in enumerate(lines, 1):
        if len(words) not in (2, 3) or len(words) != len(lines[0]):
            raise UserError(
                f"{path}:{number}: {len(words)} words; lines of the form 'FRAME DRIVE' are needed, or the "
                "development kit's train_mapping.txt"
            )
    if not lines or len(lines[0]) == 2:
        return {frame: drive for frame, drive in lines}
    order_path = path.with_name("train_rand.txt")
    order = " ".join(read_lines(order_path)).replace(",", " ").split()
    drives = {}
    for frame, text in enumerate(order):
        if not (text.isdecimal() and 1 <= int(text) <= len(lines)):
            raise UserError(
                f"{order_path}: '{shortened(text)}' is not the number of one of the {len(lines):,} lines of {path}"
            )
        drives[f"{frame:06d}"] = lines[int(text) - 1][1]
    return drives
