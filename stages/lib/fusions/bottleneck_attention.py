"""Fusion by transformers that talk through a few tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import IntermediateFusion
from stages.lib.fusions.tokens import heads, to_maps, to_tokens

LAYERS = 2  # with a single one, neither sensor's tokens would hear of the other
BOTTLENECKS = 4


class BottleneckAttention(IntermediateFusion):
    """Two transformer layers per sensor, which share four bottleneck tokens; the sensors' tokens are added up.

    In each layer a sensor's tokens attend to themselves and to the bottlenecks; the bottlenecks that leave it
    are the mean of what both sensors made of them. Sines of row and column mark the places; the layers' perceptrons
    are as wide as a token, where the paper's are four times that.

    Formula: for n = 1, 2: [r, u][HW + 4, C] = T_n([r, s]), [l, v][HW + 4, C] = T'_n([l, s]), s[4, C] = (u + v)
    / 2, with r[HW, C] and l[HW, C] the sensors' tokens with their positions, s learned to begin with; T(x) = z
    + ReLU(norm(z) E[C, C]) G[C, C], z = x + A(norm(x)), self-attention A of two heads (one
    where C is odd); each layer with weights of its own, each matrix with a bias; y[HW, C] = r + l
    Strength: sensors exchange a summary only, which cannot be drowned in the other's details.
    Limitation: by far the most parameters and operations of the operators here, learned from nothing.
    Parameters: 4*(6*C**2 + 10*C) + 4*C
    Source: Nagrani et al. 2021 (arXiv 2107.00135), multimodal bottleneck transformer.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.bottlenecks = nn.Parameter(0.02 * torch.randn(1, BOTTLENECKS, channels))
        self.rgb_layers = nn.ModuleList(_layer(channels) for _ in range(LAYERS))
        self.lidar_layers = nn.ModuleList(_layer(channels) for _ in range(LAYERS))

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        height, width = rgb.shape[2:]
        of_rgb, of_lidar = to_tokens(rgb), to_tokens(lidar)
        shared = self.bottlenecks.to(of_rgb).expand(len(rgb), -1, -1)
        num_places = height * width
        for rgb_layer, lidar_layer in zip(self.rgb_layers, self.lidar_layers, strict=True):
            seen_by_rgb = rgb_layer(torch.cat([of_rgb, shared], dim=1))
            seen_by_lidar = lidar_layer(torch.cat([of_lidar, shared], dim=1))
            of_rgb, of_lidar = seen_by_rgb[:, :num_places], seen_by_lidar[:, :num_places]
            shared = (seen_by_rgb[:, num_places:] + seen_by_lidar[:, num_places:]) / 2
        return to_maps(of_rgb + of_lidar, height, width)


def _layer(channels: int) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        channels, heads(channels), channels, dropout=0.0, batch_first=True, norm_first=True
    )
