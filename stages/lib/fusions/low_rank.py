"""Fusion by a low-rank tensor product."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import IntermediateFusion

RANK = 4


class LowRank(IntermediateFusion):
    """sum over r of w_r * (V_r [rgb, 1]) * (U_r [lidar, 1]) + b, at every place, with rank r = 1 to 4.

    Each V_r and U_r maps C + 1 to C channels. Together they are the factors of a tensor of weights: one weight for
    each product of a feature of one sensor with a feature of the other, and, because of the appended 1, one for each
    single feature.

    Formula: y[C, H, W] = sum over r of w[r] * (V[r, C, C + 1] [rgb, 1]) * (U[r, C, C + 1] [lidar, 1]) + b[C], r
    = 1 to 4
    Strength: it multiplies all pairs of channels, while the Hadamard product multiplies only equal channels.
    Limitation: products become very large or very small with their factors, so training is less stable than with
    sums.
    Parameters: 4*C*(2*C + 2) + 4 + C
    Source: Liu et al. 2018 (arXiv 1806.00064), low-rank multimodal fusion.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        # The bias of a convolution is the column of the factor for the appended 1.
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
