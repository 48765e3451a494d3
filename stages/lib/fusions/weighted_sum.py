"""Fusion by a learned weighted sum."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import IntermediateFusion


class WeightedSum(IntermediateFusion):
    """a * rgb + b * lidar, with one learned weight for each channel and sensor; all weights start at 1.

    Formula: y[C, H, W] = a[C] * rgb[C, H, W] + b[C] * lidar[C, H, W]
    Strength: like addition, but each channel of a sensor can get a lower weight, with few parameters.
    Limitation: the weights are the same for every sample, so a sensor that fails sometimes has the same weight when
    it fails.
    Parameters: 2*C
    Source: common practice; there is no paper.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.rgb_weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.lidar_weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        return self.rgb_weight * rgb + self.lidar_weight * lidar
