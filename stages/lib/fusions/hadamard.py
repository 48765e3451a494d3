"""Fusion by the Hadamard product."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import IntermediateFusion


class Hadamard(IntermediateFusion):
    """rgb * lidar, element by element: same number of channels, no parameters, symmetric in the sensors.

    Formula: y[C, H, W] = rgb[C, H, W] * lidar[C, H, W]
    Strength: the head is half as large as with concatenation. A feature is strong only where both sensors show it, so
    the product expresses "both" without parameters.
    Limitation: where the map of one sensor is zero, the product is zero, and so is the gradient to the other
    sensor: a failed sensor removes the signal of both.
    Parameters: 0
    Source: the course notebook.
    """

    is_symmetric = True

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        return rgb * lidar
