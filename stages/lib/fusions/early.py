"""Fusion before the first convolution."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import EarlyFusion


class Early(EarlyFusion):
    """[rgb, lidar] along the channels of the inputs: a single encoder sees both sensors from the start.

    Formula: x[m + n, H, W] = [rgb[m, H, W], lidar[n, H, W]], of the inputs' channels, is what the blocks see;
    y[C, H', W'] = their maps
    Strength: finds what only shows where both sensors are read pixel by pixel, with one encoder instead of two.
    Limitation: the rasters have to lie on each other, and filters have to cope with inputs of different kinds.
    Parameters: 0
    Source: Couprie et al. 2013 (arXiv 1301.3572), depth as a further channel.
    """

    def __init__(self, rgb_channels: int, lidar_channels: int, block_channels: tuple[int, ...]) -> None:
        super().__init__(rgb_channels, lidar_channels, block_channels)
        self.stream_channels = (rgb_channels + lidar_channels,)
        self.out_channels = block_channels[-1]

    def start(self, rgb: Float[Tensor, "B _ H W"], lidar: Float[Tensor, "B _ H W"]) -> list[Tensor]:
        return [torch.cat([rgb, lidar], dim=1)]

    def exchange(self, block: int, streams: list[Tensor]) -> list[Tensor]:
        return streams

    def join(self, streams: list[Tensor]) -> Float[Tensor, "B F H W"]:
        return streams[0]
