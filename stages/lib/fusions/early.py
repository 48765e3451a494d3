"""Fusion before the first convolution."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import EarlyFusion


class Early(EarlyFusion):
    """[rgb, lidar] along the channels of the inputs: a single encoder processes both sensors.

    Formula: input of the blocks: x[m + n, H, W] = [rgb[m, H, W], lidar[n, H, W]], with m and n channels of the
    inputs; y[C, H', W'] = output of the blocks
    Strength: it can find features that need both sensors at the same pixel, with one encoder instead of two.
    Limitation: image and raster must be aligned, and the same filters process inputs of different kinds.
    Parameters: 0
    Source: Couprie et al. 2013 (arXiv 1301.3572), depth as an additional channel.
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
