"""Logits of frozen networks as inputs of late fusion's head.

B = batch;  N = samples;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


class CachedLogits:
    """Logits of two frozen networks, each computed once per sample instead of once per epoch."""

    def __init__(
        self, rgb: Float[Tensor, "N K"], lidar: Float[Tensor, "N K"], labels: Int[Tensor, "N"]
    ) -> None:
        self._rgb, self._lidar, self.labels = rgb, lidar, labels

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> CachedLogits:
        return CachedLogits(self._rgb.to(device), self._lidar.to(device), self.labels.to(device))

    def batch(self, indices: Sequence[int]) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
        rows = torch.tensor(indices).to(self.labels.device, non_blocking=True)
        return self._rgb[rows], self._lidar[rows]

    def black(self) -> Tensor:
        raise TypeError("logits cannot be augmented; pass the networks' own inputs instead")
