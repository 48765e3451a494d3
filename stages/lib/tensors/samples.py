"""Single groups of the tensor cache as people look at them: without torch, which takes seconds to import.

C = colour channels;  S = side in pixels;  H, W = height and width
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from safetensors import safe_open

from stages.lib.tensors.manifest import Manifest


def read(
    folder: Path, manifest: Manifest, split: str, index: int
) -> tuple[UInt8[np.ndarray, "C S S"], Float[np.ndarray, "4 S S"]]:
    """One group's picture and raster as they lie in the cache; `index` is its place in the split.

    Raises:
        IndexError: when the split has no such place.
    """
    row = index
    for name in manifest.shards[split]:
        with safe_open(folder / name, framework="np") as shard:
            rgb, lidar = shard.get_slice("rgb"), shard.get_slice("lidar")
            size = rgb.get_shape()[0]
            if row < size:
                return rgb[row], lidar[row]
        row -= size
    raise IndexError(f"{folder}: the {split} split has no group {index}")


def as_picture(rgb: UInt8[np.ndarray, "C H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Channels first, grey, colour or with alpha, as H x W x 3."""
    colors = np.moveaxis(rgb, 0, -1)
    return np.repeat(colors, 3, axis=-1) if colors.shape[-1] == 1 else colors[..., :3]
