"""Draws a raster as a depth image: colours show the ranges.

H, W = height and width of a raster in any orientation
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from stages.lib.lidar import geometry

# Colours (red, green, blue) from the nearest to the farthest range; those in between are interpolated.
_NEAR_TO_FAR = np.array([[255, 244, 160], [250, 150, 60], [200, 60, 90], [100, 40, 130], [40, 40, 120]])


def from_raster(raster: Float[np.ndarray, "4 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """The raster for people to look at: near returns are bright, far ones dark; no return is black."""
    returned = raster[3] > 0
    depth_image = np.zeros((*returned.shape, 3), dtype=np.uint8)
    if returned.any():
        range_m = geometry.ranges(raster)
        span_m = max(float(np.ptp(range_m)), 1e-6)
        position = (range_m - range_m.min()) / span_m * (len(_NEAR_TO_FAR) - 1)
        anchors = np.arange(len(_NEAR_TO_FAR))
        channels = [np.interp(position, anchors, _NEAR_TO_FAR[:, c]) for c in range(3)]
        depth_image[returned] = np.stack(channels, axis=-1).astype(np.uint8)
    return depth_image
