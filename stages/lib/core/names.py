"""Names that every room shares: sensors and splits."""

from __future__ import annotations

SENSORS = ("rgb", "lidar")
TITLES = {"rgb": "RGB", "lidar": "LiDAR"}  # of the sensors, for people


SPLITS = ("train", "validation", "test")
