"""Fusion by the element-wise mean."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import IntermediateFusion


class Mean(IntermediateFusion):
    """(rgb + lidar) / 2, element by element: addition at half the scale, which changes how a net starts and learns.

    Formula: y[C, H, W] = (rgb[C, H, W] + lidar[C, H, W]) / 2
    Strength: that of addition; and the fused maps have the scale of the maps of a single sensor.
    Limitation: that of addition: the mean does not show which sensor a value came from; opposite values cancel each
    other.
    Parameters: 0
    Source: common practice; there is no paper.
    """

    is_symmetric = True

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        return (rgb + lidar) / 2
