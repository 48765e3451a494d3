"""Fusion by attention of either sensor to the other."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import IntermediateFusion
from stages.lib.fusions.tokens import heads, to_maps, to_tokens


class CrossAttention(IntermediateFusion):
    """norm(rgb + attend(rgb, lidar)) + norm'(lidar + attend'(lidar, rgb)), with a token for each place.

    attend(q, m) is multi-head attention with queries from q, keys and values from m; norms are over channels.
    Sines of row and column mark the places.

    Formula: y[HW, C] = norm(r + A(r, l)) + norm'(l + A'(l, r)), with r[HW, C] and l[HW, C] the sensors' tokens
    with their positions; A(q, m) = [both heads] O[C, C], a head[HW, d] = softmax((q Q[C, d]) (m P[C, d])^T /
    sqrt(d)) (m V[C, d]) of d = C / 2, or one of d = C where C is odd; each matrix with a bias
    Strength: each place of one sensor looks up what matters at any place of the other, so the rasters need
    not lie on each other.
    Limitation: attention is learned from nothing and asks for more data; its cost grows with the square of
    the places.
    Parameters: 8*C**2 + 12*C
    Source: Vaswani et al. 2017 (arXiv 1706.03762), across sensors as in Tsai et al. 2019 (arXiv 1906.00295).
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
