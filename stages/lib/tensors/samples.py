"""Reads single groups of the tensor cache for people to look at; without torch, which takes seconds to import.

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
    """Image and raster of one group as the cache stores them.

    Args:
        index: of the group in its split.

    Raises:
        IndexError: when the split has fewer groups.
    """
    row = index
    for name in manifest.shards[split]:
        with safe_open(folder / name, framework="np") as shard:
            images, rasters = shard.get_slice("rgb"), shard.get_slice("lidar")
            size = images.get_shape()[0]
            if row < size:
                return images[row], rasters[row]
        row -= size
    raise IndexError(f"{folder}: the {split} split has no group {index}")


def for_display(image: UInt8[np.ndarray, "C H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """A grey, RGB or RGBA image of the cache as H x W x 3; alpha is left out."""
    colors = np.moveaxis(image, 0, -1)
    return np.repeat(colors, 3, axis=-1) if colors.shape[-1] == 1 else colors[..., :3]
