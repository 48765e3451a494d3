"""Fusion by a low-rank tensor product."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import IntermediateFusion

RANK = 4


class LowRank(IntermediateFusion):
    """sum over r of w_r * (V_r [rgb, 1]) * (U_r [lidar, 1]) + b, at every place, with rank r = 1 to 4.

    Each V_r and U_r maps C + 1 to C channels: together they are factors of a tensor that weighs all products
    of a feature of one sensor with a feature of the other, and each feature alone, through the appended 1.

    Formula: y[C, H, W] = sum over r of w[r] * (V[r, C, C + 1] [rgb, 1]) * (U[r, C, C + 1] [lidar, 1]) + b[C], r
    = 1 to 4
    Strength: conjunctions across all pairs of channels, where the Hadamard product knows equal ones only.
    Limitation: products grow and vanish with their factors, so training is touchier than that of sums.
    Parameters: 4*C*(2*C + 2) + 4 + C
    Source: Liu et al. 2018 (arXiv 1806.00064), low-rank multimodal fusion.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        # A convolution's bias is the factor's column for the appended 1.
        self.rgb_factors = nn.Conv2d(channels, RANK * channels, 1)
        self.lidar_factors = nn.Conv2d(channels, RANK * channels, 1)
        self.weights = nn.Parameter(torch.full((RANK, 1, 1, 1), 1 / RANK))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        products = self.rgb_factors(rgb) * self.lidar_factors(lidar)
        by_rank = products.unflatten(1, (RANK, self.out_channels))
        return (self.weights * by_rank).sum(dim=1) + self.bias
