"""A raster as a picture: ranges as colours.

H, W = height and width of a raster in any orientation
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from stages.lib.lidar import geometry

# Near to far: anchors of the colours in which a depth picture is drawn (red, green, blue).
_NEAR_TO_FAR = np.array([[255, 244, 160], [250, 150, 60], [200, 60, 90], [100, 40, 130], [40, 40, 120]])


def depth_picture(xyza: Float[np.ndarray, "4 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """The raster as people look at it: near is bright, far is dark, no return is black."""
    returned = xyza[3] > 0
    picture = np.zeros((*returned.shape, 3), dtype=np.uint8)
    if returned.any():
        range_m = geometry.ranges(xyza)
        span_m = max(float(np.ptp(range_m)), 1e-6)
        position = (range_m - range_m.min()) / span_m * (len(_NEAR_TO_FAR) - 1)
        anchors = np.arange(len(_NEAR_TO_FAR))
        channels = [np.interp(position, anchors, _NEAR_TO_FAR[:, c]) for c in range(3)]
        picture[returned] = np.stack(channels, axis=-1).astype(np.uint8)
    return picture
