"""Names that every room uses: the two sensors and the three splits."""

from __future__ import annotations

SENSORS = ("rgb", "lidar")
TITLES = {"rgb": "RGB", "lidar": "LiDAR"}  # how the report writes the sensors' names

SPLITS = ("train", "validation", "test")
