"""Fusion by concatenation along channels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import IntermediateFusion


class Concatenation(IntermediateFusion):
    """[rgb, lidar] along channels: doubles the channel count and adds no parameters of its own.

    Formula: y[2C, H, W] = [rgb[C, H, W], lidar[C, H, W]]
    Strength: nothing is lost; the head learns for each feature and place which sensor to trust.
    Limitation: the head's first layer doubles, which is most of the model's parameters.
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
