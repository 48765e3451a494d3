"""Fusion by a learned weighted sum."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import IntermediateFusion


class WeightedSum(IntermediateFusion):
    """a * rgb + b * lidar with a learned weight per channel and sensor, 1 to begin with.

    Formula: y[C, H, W] = a[C] * rgb[C, H, W] + b[C] * lidar[C, H, W]
    Strength: addition that can turn a sensor down, channel by channel, for hardly any parameters.
    Limitation: the weights are the same for every sample, so a sensor that fails now and then is trusted as
    much as ever.
    Parameters: 2*C
    Source: the field's common practice; no paper of its own.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.rgb_weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.lidar_weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        return self.rgb_weight * rgb + self.lidar_weight * lidar
