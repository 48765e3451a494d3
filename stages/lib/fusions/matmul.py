"""Fusion by the matrix product of maps."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import IntermediateFusion


class Matmul(IntermediateFusion):
    """rgb @ lidar: each channel's maps as matrices, multiplied; a cell sums over RGB's row and LiDAR's column.

    Formula: y[c, i, j] = sum over k of rgb[c, i, k] * lidar[c, k, j], for maps of [C, H, H]
    Strength: relates far places of the two maps without parameters.
    Limitation: what it relates is a row with a column, which means nothing in either picture; a silent sensor
    silences its partner; only square maps can be multiplied.
    Parameters: 0
    Source: the NVIDIA course that the notebook belongs to.
    """

    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        height, width = rgb.shape[2:]
        if height != width:
            raise ValueError(f"matmul multiplies square maps only, not {height} x {width} ones")
        return rgb @ lidar
