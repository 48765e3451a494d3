"""Fusion by feature-wise linear modulation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import IntermediateFusion


class Film(IntermediateFusion):
    """(1 + g) * rgb + b plus (1 + g') * lidar + b': either sensor scales and shifts the other's channels.

    Formula: y[C, H, W] = (1 + g[C]) * rgb + b[C] + (1 + g'[C]) * lidar + b'[C], [g, b] = P[2C, C]
    mean(lidar)[C] + p[2C], [g', b'] = Q[2C, C] mean(rgb)[C] + q[2C], means over all places
    Strength: what one sensor sees as a whole decides which of the other's features count.
    Limitation: the conditioning knows no places: what one sensor misses in a corner rescales the other everywhere,
    and no sensor's own failure turns it down.
    Parameters: 4*C**2 + 4*C
    Source: Perez et al. 2018 (arXiv 1709.07871), used both ways.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.from_lidar = nn.Linear(channels, 2 * channels)
        self.from_rgb = nn.Linear(channels, 2 * channels)

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        return _modulated(rgb, self.from_lidar(lidar.mean(dim=(2, 3)))) + _modulated(
            lidar, self.from_rgb(rgb.mean(dim=(2, 3)))
        )


def _modulated(
    maps: Float[Tensor, "B C H W"], coefficients: Float[Tensor, "B two_C"]
) -> Float[Tensor, "B C H W"]:
    scale, shift = coefficients[:, :, None, None].chunk(2, dim=1)
    return (1 + scale) * maps + shift
