"""Late fusion by a linear layer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import LateFusion


class LateLinear(LateFusion):
    """A linear function of the logits of both nets: logistic regression on their predictions.

    Formula: y[K] = W[K, 2K] [rgb[K], lidar[K]] + w[K]
    Strength: with few weights it can give one sensor more weight than the other, and correct a bias.
    Limitation: the weights are the same for every sample.
    Parameters: 2*K**2 + K
    Source: Wolpert 1992, stacked generalization.
    """

    def __init__(self, num_logits: int, hidden: int) -> None:
        super().__init__(num_logits, hidden)
        self.linear = nn.Linear(2 * num_logits, num_logits)

    def forward(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.linear(torch.cat([rgb, lidar], dim=1))
