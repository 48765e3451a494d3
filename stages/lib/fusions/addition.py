"""Fusion by element-wise addition."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import IntermediateFusion


class Addition(IntermediateFusion):
    """rgb + lidar: keeps the channel count, adds no parameters, and is symmetric in the sensors.

    Formula: y[C, H, W] = rgb[C, H, W] + lidar[C, H, W]
    Strength: half of concatenation's head. Either sensor can carry a feature alone, because a silent
    one adds nothing.
    Limitation: which sensor a value came from is lost; opposite evidence cancels.
    Parameters: 0
    Source: the course notebook.
    """

    is_symmetric = True

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        return rgb + lidar
