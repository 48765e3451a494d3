"""Fusion by concatenation along channels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import IntermediateFusion


class Concatenation(IntermediateFusion):
    """[rgb, lidar] along the channels: twice the number of channels, no parameters of its own.

    Formula: y[2C, H, W] = [rgb[C, H, W], lidar[C, H, W]]
    Strength: no information is lost; the head learns for each feature and place which sensor to trust.
    Limitation: the first layer of the head, which has most of the model's parameters, becomes twice as large.
    Parameters: 0
    Source: the course notebook.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.out_channels = 2 * channels

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B F H W"]:
        return torch.cat([rgb, lidar], dim=1)
