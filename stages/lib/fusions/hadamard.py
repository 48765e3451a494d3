"""Fusion by the Hadamard product."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import IntermediateFusion


class Hadamard(IntermediateFusion):
    """rgb * lidar, element by element: keeps the channel count, adds no parameters, is symmetric.

    Formula: y[C, H, W] = rgb[C, H, W] * lidar[C, H, W]
    Strength: half of concatenation's head. Agreement of the sensors is amplified, so conjunctions
    come for free.
    Limitation: where one sensor is silent the product is zero, and so is the gradient to the other:
    a failed sensor silences its partner.
    Parameters: 0
    Source: the course notebook.
    """

    is_symmetric = True

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        return rgb * lidar
