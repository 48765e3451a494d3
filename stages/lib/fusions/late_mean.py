"""Late fusion by the mean logit."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import LateFusion


class LateMean(LateFusion):
    """(rgb + lidar) / 2, the mean of the logits of both nets; without training.

    Formula: y[K] = (rgb[K] + lidar[K]) / 2
    Strength: it needs no more training data, and the contribution of each sensor is visible.
    Limitation: the prediction of a net whose sensor fails counts as much as the other one.
    Parameters: 0
    Source: Kittler et al. 1998, combining rules (the product rule, scaled).
    """

    is_symmetric = True

    def forward(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return (rgb + lidar) / 2
