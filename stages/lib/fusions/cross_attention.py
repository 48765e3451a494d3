"""Fusion by attention from each sensor to the other."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import IntermediateFusion
from stages.lib.fusions.tokens import heads, to_maps, to_tokens


class CrossAttention(IntermediateFusion):
    """norm(rgb + attend(rgb, lidar)) + norm'(lidar + attend'(lidar, rgb)), with one token for each place.

    attend(q, m) is multi-head attention with queries from q and with keys and values from m. The norms are over the
    channels. Sines of row and column encode the places.

    Formula: y[HW, C] = norm(r + A(r, l)) + norm'(l + A'(l, r)), with r[HW, C] and l[HW, C] the sensors' tokens
    with their positions; A(q, m) = [both heads] O[C, C], a head[HW, d] = softmax((q Q[C, d]) (m P[C, d])^T /
    sqrt(d)) (m V[C, d]) of d = C / 2, or one head of d = C if C is odd; each matrix has a bias
    Strength: each place of one sensor can use the features of any place of the other, so image and raster need not
    be aligned.
    Limitation: attention has no pretrained weights and needs more data; its cost grows with the square of the
    number of places.
    Parameters: 8*C**2 + 12*C
    Source: Vaswani et al. 2017 (arXiv 1706.03762), between sensors as in Tsai et al. 2019 (arXiv 1906.00295).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.rgb_attention = nn.MultiheadAttention(channels, heads(channels), batch_first=True)
        self.lidar_attention = nn.MultiheadAttention(channels, heads(channels), batch_first=True)
        self.rgb_norm = nn.LayerNorm(channels)
        self.lidar_norm = nn.LayerNorm(channels)

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        height, width = rgb.shape[2:]
        of_rgb, of_lidar = to_tokens(rgb), to_tokens(lidar)
        found_by_rgb, _ = self.rgb_attention(of_rgb, of_lidar, of_lidar, need_weights=False)
        found_by_lidar, _ = self.lidar_attention(of_lidar, of_rgb, of_rgb, need_weights=False)
        fused = self.rgb_norm(of_rgb + found_by_rgb) + self.lidar_norm(of_lidar + found_by_lidar)
        return to_maps(fused, height, width)
