"""Fusion by a gated multimodal unit."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import IntermediateFusion


class Gated(IntermediateFusion):
    """z * tanh(V rgb) + (1 - z) * tanh(U lidar) with the gate z = sigmoid(Z [rgb, lidar]), at every place.

    Formula: y[C, H, W] = z * tanh(V[C, C] rgb) + (1 - z) * tanh(U[C, C] lidar), z[C, H, W] = sigmoid(Z[C, 2C]
    [rgb, lidar]), each matrix is a 1x1 convolution with a bias
    Strength: the gate depends on both sensors and decides for each sample, feature and place which one to trust.
    Limitation: a higher weight of one sensor is a lower weight of the other: evidence of both cannot add up.
    Parameters: 4*C**2 + 3*C
    Source: Arevalo et al. 2017 (arXiv 1702.01992), the gated multimodal unit.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.rgb_features = nn.Conv2d(channels, channels, 1)
        self.lidar_features = nn.Conv2d(channels, channels, 1)
        self.gate = nn.Conv2d(2 * channels, channels, 1)

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        gate = torch.sigmoid(self.gate(torch.cat([rgb, lidar], dim=1)))
        return gate * torch.tanh(self.rgb_features(rgb)) + (1 - gate) * torch.tanh(self.lidar_features(lidar))
