"""Fusion by feature-wise linear modulation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import IntermediateFusion


class Film(IntermediateFusion):
    """(1 + g) * rgb + b plus (1 + g') * lidar + b': each sensor scales and shifts the channels of the other.

    Formula: y[C, H, W] = (1 + g[C]) * rgb + b[C] + (1 + g'[C]) * lidar + b'[C], [g, b] = P[2C, C]
    mean(lidar)[C] + p[2C], [g', b'] = Q[2C, C] mean(rgb)[C] + q[2C], mean over all places
    Strength: a summary of one sensor's maps decides how strongly each feature of the other sensor counts.
    Limitation: scale and shift are the same at all places: a local failure of one sensor changes the other
    everywhere. A sensor that fails does not get a lower weight itself.
    Parameters: 4*C**2 + 4*C
    Source: Perez et al. 2018 (arXiv 1709.07871), used in both directions.
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
