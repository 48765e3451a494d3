"""Reads the tensors of one split from the cache and makes network inputs of them; export/ writes them.

The cache stores images as uint8 and rasters as float32 XYZA, in safetensors shards. Shards are mapped into
memory, so parallel workers share one copy. From an image comes the network input `rgb`, from a raster `lidar`.

    N = groups of a split;  B = batch;  C = colour channels;  S = side in pixels;  c = channels of one sensor
"""

from __future__ import annotations

import bisect
import copy
import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from safetensors import safe_open
from torch import Tensor

from stages.lib.tensors.manifest import Manifest


class Split:
    """The tensors of one split, mapped from disk; `batch` returns network inputs."""

    def __init__(self, folder: Path, manifest: Manifest, split: str) -> None:
        self._images: list[UInt8[Tensor, "N C S S"]] = []  # by shard
        self._rasters: list[Float[Tensor, "N 4 S S"]] = []  # by shard
        labels = []
        for name in manifest.shards[split]:
            with safe_open(folder / name, framework="pt") as shard:
                self._images.append(shard.get_tensor("rgb"))
                self._rasters.append(shard.get_tensor("lidar"))
                labels.append(shard.get_tensor("label"))
        self.labels: Int[Tensor, "N"] = torch.cat(labels)
        self._starts = [
            0,
            *itertools.accumulate(map(len, labels)),
        ]  # index in the split of each shard's first group
        self._normalized = manifest.normalized
        self._scales = {
            sensor: (torch.tensor(values.mean), torch.tensor(values.std))
            for sensor, values in manifest.statistics.items()
        }

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """A copy of the split with its tensors on the device; the split itself if they are there already."""
        if self.labels.device.type == device.type:
            return self
        moved = copy.copy(self)
        moved._images = [shard.to(device) for shard in self._images]
        moved._rasters = [shard.to(device) for shard in self._rasters]
        moved.labels = self.labels.to(device)
        moved._scales = {
            sensor: (mean.to(device), std.to(device)) for sensor, (mean, std) in self._scales.items()
        }
        return moved

    def _place(self, index: int) -> tuple[int, int]:
        """The shard of a group, and its row there."""
        shard = bisect.bisect_right(self._starts, index) - 1
        return shard, index - self._starts[shard]

    def batch(self, indices: Sequence[int]) -> tuple[Float[Tensor, "B C S S"], Float[Tensor, "B 4 S S"]]:
        """Network inputs `rgb` and `lidar` of these groups."""
        images, rasters = self.images_and_rasters(indices)
        return self.network_input("rgb", images), self.network_input("lidar", rasters)

    def images_and_rasters(
        self, indices: Sequence[int]
    ) -> tuple[Float[Tensor, "B C S S"], Float[Tensor, "B 4 S S"]]:
        """Images (colours in 0..1) and rasters (XYZA, coordinates in metres) of these groups."""
        # Indices are plain numbers and each group is a view of its shard, so no line here waits for a GPU.
        places = [self._place(index) for index in indices]
        images = torch.stack([self._images[shard][row] for shard, row in places]).float() / 255
        return images, torch.stack([self._rasters[shard][row] for shard, row in places])

    def network_input(self, sensor: str, data: Float[Tensor, "B c S S"]) -> Float[Tensor, "B c S S"]:
        """Network input `rgb` from images, or `lidar` from rasters; unchanged if the manifest says so."""
        if not self._normalized:
            return data
        if sensor == "lidar":
            data = centered(data)
        return standardized(data, *self._scales[sensor])

    def absent(self) -> tuple[Float[Tensor, "C 1 1"], Float[Tensor, "4 1 1"]]:
        """The network inputs of a black pixel and of a cell without return."""
        mean, std = self._scales["rgb"]
        black = -mean / std if self._normalized else torch.zeros_like(mean)
        return black[:, None, None], torch.zeros(4, 1, 1, device=mean.device)


def centered(rasters: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "B 4 S S"]:
    """Coordinates relative to the centroid of each raster's returns; cells without return stay zero.

    Shapes differ by about a metre of relief. Beside coordinates of 20 m such a difference would hardly count, and the
    object's position is also visible from the cells that it covers.
    """
    returned = rasters[:, 3:]
    count = returned.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    centroid = rasters[:, :3].sum(dim=(2, 3), keepdim=True) / count
    return torch.cat([(rasters[:, :3] - centroid) * returned, returned], dim=1)


def standardized(
    values: Float[Tensor, "B C S S"], mean: Float[Tensor, "C"], std: Float[Tensor, "C"]
) -> Float[Tensor, "B C S S"]:
    return (values - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
