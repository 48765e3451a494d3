"""Fusion by the element-wise mean."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import IntermediateFusion


class Mean(IntermediateFusion):
    """(rgb + lidar) / 2: addition at half the scale, which initial weights and rates feel.

    Formula: y[C, H, W] = (rgb[C, H, W] + lidar[C, H, W]) / 2
    Strength: that of addition, and the fused maps keep the scale of a single sensor's.
    Limitation: that of addition: which sensor a value came from is lost; opposite evidence cancels.
    Parameters: 0
    Source: the field's common practice; no paper of its own.
    """

    is_symmetric = True

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        return (rgb + lidar) / 2
