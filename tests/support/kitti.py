"""Writes small folders in the layout of KITTI's object data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 200, 100
# Focal length 100 pixels, middle of the picture at (100, 50), and a camera 0.2 m to the left of the one that defines
# the axes: column = 100 + (100 x + 20) / z, row = 50 + 100 y / z.
PROJECTION = "1e2 0 1.0e+02 2e1 0 1e2 5e1 0 0 0 1 0"
# x right = -y, y down = -z, z forward = x - 0.5: the camera is half a metre in front of the LiDAR.
VELODYNE_TO_CAMERA = "0 -1 0 0 0 0 -1 0 1 0 0 -5.000000000000e-01"
CALIBRATION = (
    f"P0: 1 0\nP2: {PROJECTION}\nR0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: {VELODYNE_TO_CAMERA}\n\n"
)


def car_depth_m(number: int) -> float:
    """The z of the car's nearest return in camera axes, in a frame of `write_kitti`."""
    return 10.5 + number / 16


def write_kitti(folder: Path, frames: int) -> Path:
    """Frames with a car in the middle, a pedestrian at the right edge, a van without a return, and a DontCare region.

    The car's crop has a side of 64 pixels, and its left upper corner is (68, 18).
    """
    for name in ("image_2", "velodyne", "calib", "label_2"):
        (folder / name).mkdir(parents=True)
    for number in range(frames):
        write_frame(folder, number)
    return folder


def write_frame(folder: Path, number: int) -> None:
    name = f"{number:06d}"
    rng = np.random.default_rng(number)
    pixels = rng.integers(1, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image_2" / f"{name}.png")
    (folder / "calib" / f"{name}.txt").write_text(CALIBRATION)
    depth_m = car_depth_m(number)
    points = [
        [depth_m + 0.5, 0, 0, 0.3],  # at the car: column 100 + 20 / depth, row 50
        [depth_m + 10.5, 0, 0, 0.3],  # behind it in the same direction, but in another column
        [depth_m + 0.75, 0, 0, 0.3],  # behind the first one in the same cell
        [-depth_m, 0, 0, 0.3],  # behind the camera
        [8.5, -7.7 + number / 64, 0, 0.3],  # at the pedestrian: column 198.75 - number / 5.12, row 50
        [0, 0, 0, 0],
        [np.nan, 0, 0, 0],
    ]
    np.array(points, dtype="<f4").tofile(folder / "velodyne" / f"{name}.bin")
    labels = [
        "Car 0.25 2 -1.57 73.25 40.00 126.75 60.00 1.5 1.6 3.9 3.00 4.00 12.00 -1.56",
        "DontCare -1 -1 -10 5.00 5.00 20.00 20.00 -1 -1 -1 -1000 -1000 -1000 -10",
        "Van 0.00 0 1.57 5.00 5.00 30.00 30.00 2 2 5 -9.00 1.00 30.00 1.5",
        "Pedestrian 0.50 1 0.1 190.00 40.00 199.00 56.00 1.7 0.5 0.5 7.70 1.00 8.00 0.2",
    ]
    (folder / "label_2" / f"{name}.txt").write_text("\n".join(labels) + "\n")


def write_mapping(folder: Path, drive_of_frame: list[str]) -> Path:
    """Writes the drive of each frame in the development kit's form, with the lines in another order."""
    folder.mkdir(parents=True)
    count = len(drive_of_frame)
    line_of_frame = [(number + 3) % count for number in range(count)]
    lines = dict(zip(line_of_frame, drive_of_frame, strict=True))
    text = [f"2011_09_26 {lines[number]} {number:010d}" for number in range(count)]
    (folder / "train_mapping.txt").write_text("\n".join(text) + "\n")
    (folder / "train_rand.txt").write_text(",".join(str(line + 1) for line in line_of_frame))
    return folder / "train_mapping.txt"
