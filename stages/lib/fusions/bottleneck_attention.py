"""Fusion by transformers that exchange information through a few tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import IntermediateFusion
from stages.lib.fusions.tokens import heads, to_maps, to_tokens

LAYERS = 2  # with one layer, no token of one sensor would depend on the other sensor
BOTTLENECKS = 4


class BottleneckAttention(IntermediateFusion):
    """Two transformer layers per sensor, with four bottleneck tokens that both sensors share; then addition.

    In each layer, the tokens of a sensor attend to each other and to the bottleneck tokens. After the layer, each
    bottleneck token is the mean of its two versions, one from each sensor. Sines of row and column encode the places.
    The perceptrons in the layers are as wide as a token; in the paper they are four times as wide.

    Formula: for n = 1, 2: [r, u][HW + 4, C] = T_n([r, s]), [l, v][HW + 4, C] = T'_n([l, s]), s[4, C] = (u + v)
    / 2, with r[HW, C] and l[HW, C] the sensors' tokens with their positions, and a learned initial s; T(x) = z
    + ReLU(norm(z) E[C, C]) G[C, C], z = x + A(norm(x)), self-attention A of two heads (one
    where C is odd); each layer has its own weights, each matrix has a bias; y[HW, C] = r + l
    Strength: the sensors exchange only a summary, in which the details of the other sensor do not hide it.
    Limitation: it needs the most parameters and operations of all operators here, without pretrained weights.
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
        # Not len(rgb), a plain number, which an exported graph would keep for good.
        shared = self.bottlenecks.to(of_rgb).expand(rgb.shape[0], -1, -1)
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
