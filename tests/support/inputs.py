"""Inputs of a network that no cache holds."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor


class RandomInputs:
    """Random images and rasters of two classes; remembers the batches that were asked for."""

    def __init__(self, seed: int, num_samples: int = 10, side: int = 16) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._rgb = torch.rand(num_samples, 4, side, side, generator=generator)
        self._lidar = torch.rand(num_samples, 4, side, side, generator=generator)
        self.labels = torch.arange(num_samples) % 2
        self.batches: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> RandomInputs:
        moved = copy.copy(self)
        moved._rgb, moved._lidar, moved.labels = (
            tensor.to(device) for tensor in (self._rgb, self._lidar, self.labels)
        )
        return moved

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        self.batches.append(list(indices))
        return self._rgb[list(indices)], self._lidar[list(indices)]

    def absent(self) -> tuple[Tensor, Tensor]:
        nothing = torch.zeros(4, 1, 1, device=self.labels.device)
        return nothing, nothing
