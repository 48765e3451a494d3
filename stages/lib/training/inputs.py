"""Logits of frozen networks as inputs of late fusion's head.

B = batch;  N = samples;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


class CachedLogits:
    """Logits of two frozen networks, each computed once per sample instead of once per epoch.

    Args:
        absent: each network's logits where its sensor is missing.
    """

    def __init__(
        self,
        rgb: Float[Tensor, "N K"],
        lidar: Float[Tensor, "N K"],
        labels: Int[Tensor, "N"],
        absent: tuple[Float[Tensor, "K"], Float[Tensor, "K"]],
    ) -> None:
        self._rgb, self._lidar, self.labels, self._absent = rgb, lidar, labels, absent

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> CachedLogits:
        rgb, lidar = self._absent
        return CachedLogits(
            self._rgb.to(device),
            self._lidar.to(device),
            self.labels.to(device),
            (rgb.to(device), lidar.to(device)),
        )

    def batch(self, indices: Sequence[int]) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
        rows = torch.tensor(indices).to(self.labels.device, non_blocking=True)
        return self._rgb[rows], self._lidar[rows]

    def absent(self) -> tuple[Float[Tensor, "K"], Float[Tensor, "K"]]:
        return self._absent
