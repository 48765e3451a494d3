"""One file of the tensor cache, written where its groups are decoded: tensors never change process.

N = groups of the file;  C = colour channels;  S = side in pixels
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy
from jaxtyping import Float, UInt8


class Shard:
    """Room for the groups of one file, filled from the start."""

    def __init__(self, num_groups: int, channels: int, size: int) -> None:
        self.rgb: UInt8[np.ndarray, "N C S S"] = np.empty((num_groups, channels, size, size), np.uint8)
        self.xyza: Float[np.ndarray, "N 4 S S"] = np.empty((num_groups, 4, size, size), np.float32)
        self._labels = np.empty(num_groups, np.int64)
        self.filled = 0

    def add(self, rgb: UInt8[np.ndarray, "C S S"], xyza: Float[np.ndarray, "4 S S"], label: int) -> None:
        self.rgb[self.filled], self.xyza[self.filled], self._labels[self.filled] = rgb, xyza, label
        self.filled += 1

    def save(self, path: Path) -> None:
        """Writes what has been filled."""
        content = {"rgb": self.rgb, "lidar": self.xyza, "label": self._labels}
        safetensors.numpy.save_file({name: part[: self.filled] for name, part in content.items()}, path)


def drop(path: Path, rows: list[int]) -> None:
    """Takes groups out of a file; one that is left without any is removed."""
    content = safetensors.numpy.load_file(path)
    kept = np.delete(np.arange(len(content["label"])), rows)
    if kept.size:
        safetensors.numpy.save_file({name: part[kept] for name, part in content.items()}, path)
    else:
        path.unlink()
