"""Late fusion by the mean logit."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import LateFusion


class LateMean(LateFusion):
    """(rgb + lidar) / 2 of both nets' logits; nothing is trained.

    Formula: y[K] = (rgb[K] + lidar[K]) / 2
    Strength: needs no further data, and what each sensor contributed can be read off.
    Limitation: a blind net's opinion counts as much as that of one that sees.
    Parameters: 0
    Source: Kittler et al. 1998, combining rules (the product rule, scaled).
    """

    is_symmetric = True

    def forward(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return (rgb + lidar) / 2
