"""Writes shards: files of the tensor cache with some groups each.

Each shard is written in the process that decodes its groups, so tensors never move between processes.

    N = groups of the shard;  C = colour channels;  S = side in pixels
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy
from jaxtyping import Float, UInt8


class Shard:
    """Space for the groups of one file; `filled` of them have been added."""

    def __init__(self, num_groups: int, channels: int, size: int) -> None:
        self.images: UInt8[np.ndarray, "N C S S"] = np.empty((num_groups, channels, size, size), np.uint8)
        self.rasters: Float[np.ndarray, "N 4 S S"] = np.empty((num_groups, 4, size, size), np.float32)
        self._labels = np.empty(num_groups, np.int64)
        self.filled = 0

    def add(self, image: UInt8[np.ndarray, "C S S"], raster: Float[np.ndarray, "4 S S"], label: int) -> None:
        self.images[self.filled], self.rasters[self.filled] = image, raster
        self._labels[self.filled] = label
        self.filled += 1

    def save(self, path: Path) -> None:
        """Writes the groups that have been added."""
        content = {"rgb": self.images, "lidar": self.rasters, "label": self._labels}
        safetensors.numpy.save_file({name: part[: self.filled] for name, part in content.items()}, path)


def drop(path: Path, rows: list[int]) -> None:
    """Removes groups from a shard's file; the file too, when no group is left."""
    content = safetensors.numpy.load_file(path)
    kept = np.delete(np.arange(len(content["label"])), rows)
    if kept.size:
        safetensors.numpy.save_file({name: part[kept] for name, part in content.items()}, path)
    else:
        path.unlink()
