"""Sizes of networks for tests: the notebook's, and small ones for seven classes."""

from __future__ import annotations

from scripts.fusion_docs import NOTEBOOK as NOTEBOOK
from stages.lib.models.architecture import Architecture

SEVEN_CLASSES = Architecture(
    rgb_channels=3,
    lidar_channels=4,
    image_size=40,
    num_logits=7,
    unimodal_channels=(4, 6, 8),
    intermediate_channels=(4, 6, 8),
    hidden=(16, 8),
    late_hidden=10,
)
