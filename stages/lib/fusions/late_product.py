"""Late fusion by a product of experts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import LateFusion


class LateProduct(LateFusion):
    """rgb / T + lidar / T' with learned temperatures: the product of the nets' probabilities, normalised.

    Formula: y[K] = rgb[K] / T + lidar[K] / T', T = exp(t), T' = exp(t')
    Strength: the correct rule for nets with independent errors; a confident net outweighs an uncertain one.
    Limitation: errors that the sensors share count twice, and so do the class frequencies.
    Parameters: 2
    Source: Hinton 2002, products of experts; temperatures as in Guo et al. 2017 (arXiv 1706.04599).
    """

    def __init__(self, num_logits: int, hidden: int) -> None:
        super().__init__(num_logits, hidden)
        # Logarithms, so that temperatures stay positive.
        self.log_temperatures = nn.Parameter(torch.zeros(2))

    def forward(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        of_rgb, of_lidar = torch.exp(-self.log_temperatures)
        return of_rgb * rgb + of_lidar * lidar
