"""Fusion by the matrix product of maps."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from stages.lib.fusions.base import IntermediateFusion


class Matmul(IntermediateFusion):
    """rgb @ lidar, the matrix product of each channel's maps: a cell combines a row of RGB with a column of LiDAR.

    Formula: y[c, i, j] = sum over k of rgb[c, i, k] * lidar[c, k, j], for maps of [C, H, H]
    Strength: it combines distant places of the two maps without parameters.
    Limitation: it combines a row with a column, which has no meaning in the image or in the raster; a failed sensor
    removes the signal of both; it needs square maps.
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
