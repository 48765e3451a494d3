"""Fusion by element-wise addition."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import IntermediateFusion


class Addition(IntermediateFusion):
    """rgb + lidar, element by element: same number of channels, no parameters, symmetric in the sensors.

    Formula: y[C, H, W] = rgb[C, H, W] + lidar[C, H, W]
    Strength: the head is half as large as with concatenation. One sensor alone can show a feature, because a
    sensor without signal adds zero.
    Limitation: the sum does not show which sensor a value came from; opposite values cancel each other.
    Parameters: 0
    Source: the course notebook.
    """

    is_symmetric = True

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        return rgb + lidar
