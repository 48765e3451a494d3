"""Fusion by gates between the blocks (multimodal transfer module)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import StreamFusion


class Mmtm(StreamFusion):
    """After each block, gates computed from both sensors' averages scale the channels of each; at the end, addition.

    Formula: after each block of c channels: s[c // 2] = ReLU(S[c // 2, 2c] [mean(rgb), mean(lidar)]), rgb[c, H,
    W] becomes 2 * sigmoid(V[c, c // 2] s) * rgb, and lidar 2 * sigmoid(U[c, c // 2] s) * lidar, each matrix
    has a bias; y[C, H, W] = rgb + lidar after the last block
    Strength: each sensor influences the other early and after every block, at low cost.
    Limitation: the gates are the same at all places; the features of one sensor depend on those of the other.
    Parameters: sum(4*c*(c//2) + 2*c + c//2 for c in blocks)
    Source: Joze et al. 2020 (arXiv 1911.08670), multimodal transfer modules; the maps are added at the end.
    """

    def __init__(self, rgb_channels: int, lidar_channels: int, block_channels: tuple[int, ...]) -> None:
        super().__init__(rgb_channels, lidar_channels, block_channels)
        self.stream_channels = (rgb_channels, lidar_channels)
        self.out_channels = block_channels[-1]
        self.squeezes = nn.ModuleList(nn.Linear(2 * c, c // 2) for c in block_channels)
        self.rgb_gates = nn.ModuleList(nn.Linear(c // 2, c) for c in block_channels)
        self.lidar_gates = nn.ModuleList(nn.Linear(c // 2, c) for c in block_channels)

    def start(self, rgb: Float[Tensor, "B _ H W"], lidar: Float[Tensor, "B _ H W"]) -> list[Tensor]:
        return [rgb, lidar]

    def exchange(self, block: int, streams: list[Tensor]) -> list[Tensor]:
        means = torch.cat([maps.mean(dim=(2, 3)) for maps in streams], dim=1)
        summary = torch.relu(self.squeezes[block](means))
        gates = [gate[block](summary) for gate in (self.rgb_gates, self.lidar_gates)]
        return [
            maps * (2 * torch.sigmoid(gate))[:, :, None, None]
            for maps, gate in zip(streams, gates, strict=True)
        ]

    def join(self, streams: list[Tensor]) -> Float[Tensor, "B F H W"]:
        rgb, lidar = streams
        return rgb + lidar
