"""Reads the tensors of the cache, safetensors shards; export/ writes them.

Pictures are kept as uint8 and scaled on use; rasters are float32 XYZA. Shards are mapped into
memory, so parallel workers share one copy.

    N = groups of a split;  B = batch;  C = colour channels;  S = side in pixels
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
    """One split's tensors, mapped from disk; `batch` gives them as the networks want them."""

    def __init__(self, folder: Path, manifest: Manifest, split: str) -> None:
        self._rgb: list[UInt8[Tensor, "N C S S"]] = []
        self._lidar: list[Float[Tensor, "N 4 S S"]] = []
        labels = []
        for name in manifest.shards[split]:
            with safe_open(folder / name, framework="pt") as shard:
                self._rgb.append(shard.get_tensor("rgb"))
                self._lidar.append(shard.get_tensor("lidar"))
                labels.append(shard.get_tensor("label"))
        self.labels: Int[Tensor, "N"] = torch.cat(labels)
        self._starts = [0, *itertools.accumulate(map(len, labels))]  # index of each shard's first group
        self._normalized = manifest.normalized
        self._scales = {
            sensor: (torch.tensor(values.mean), torch.tensor(values.std))
            for sensor, values in manifest.statistics.items()
        }

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """The same split with its tensors on a device; where they are there already, it is this one."""
        if self.labels.device.type == device.type:
            return self
        moved = copy.copy(self)
        moved._rgb = [shard.to(device) for shard in self._rgb]
        moved._lidar = [shard.to(device) for shard in self._lidar]
        moved.labels = self.labels.to(device)
        moved._scales = {
            sensor: (mean.to(device), std.to(device)) for sensor, (mean, std) in self._scales.items()
        }
        return moved

    def _place(self, index: int) -> tuple[int, int]:
        """Shard and row of a group."""
        shard = bisect.bisect_right(self._starts, index) - 1
        return shard, index - self._starts[shard]

    def batch(self, indices: Sequence[int]) -> tuple[Float[Tensor, "B C S S"], Float[Tensor, "B 4 S S"]]:
        """Network inputs of these groups."""
        rgb, xyza = self.measured(indices)
        return self.normalized("rgb", rgb), self.normalized("lidar", xyza)

    def measured(self, indices: Sequence[int]) -> tuple[Float[Tensor, "B C S S"], Float[Tensor, "B 4 S S"]]:
        """What the sensors saw of these groups: colours in 0..1, coordinates in metres.

        Indices are plain numbers and each group is a view of its shard, so nothing here waits for a GPU.
        """
        places = [self._place(index) for index in indices]
        rgb = torch.stack([self._rgb[shard][row] for shard, row in places]).float() / 255
        return rgb, torch.stack([self._lidar[shard][row] for shard, row in places])

    def normalized(self, sensor: str, measured: Float[Tensor, "B c S S"]) -> Float[Tensor, "B c S S"]:
        """One sensor's network inputs from what it saw; the same where the manifest asks for raw inputs."""
        if not self._normalized:
            return measured
        if sensor == "lidar":
            measured = _centered(measured)
        return _standardized(measured, *self._scales[sensor])

    def black(self) -> Float[Tensor, "C"]:
        """A black pixel as networks see it; a scan without returns is all zeros."""
        mean, std = self._scales["rgb"]
        return -mean / std if self._normalized else torch.zeros_like(mean)


def _centered(xyza: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "B 4 S S"]:
    """Coordinates relative to the centroid of each scan's returns; cells without one stay zero.

    What tells shapes apart is a relief of a metre; at 20 m it would drown in the object's position,
    which the raster shows anyway.
    """
    returned = xyza[:, 3:]
    count = returned.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    centroid = xyza[:, :3].sum(dim=(2, 3), keepdim=True) / count
    return torch.cat([(xyza[:, :3] - centroid) * returned, returned], dim=1)


def _standardized(
    values: Float[Tensor, "B C S S"], mean: Float[Tensor, "C"], std: Float[Tensor, "C"]
) -> Float[Tensor, "B C S S"]:
    return (values - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
