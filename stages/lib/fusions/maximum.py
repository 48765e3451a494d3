"""Fusion by the element-wise maximum."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import IntermediateFusion


class Maximum(IntermediateFusion):
    """max(rgb, lidar), element by element: same number of channels, no parameters, symmetric in the sensors.

    Formula: y[C, H, W] = max(rgb[C, H, W], lidar[C, H, W])
    Strength: the sensor with the stronger feature decides, even if the other one does not show it.
    Limitation: the value of the other sensor is lost, and it gets no gradient.
    Parameters: 0
    Source: Feichtenhofer et al. 2016 (arXiv 1604.06573), max fusion.
    """

    is_symmetric = True

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        return torch.maximum(rgb, lidar)
