"""What networks in tests are built from."""

from __future__ import annotations

from stages.lib.models.architecture import Architecture

NOTEBOOK = Architecture(
    rgb_channels=4,
    lidar_channels=4,
    image_size=64,
    num_logits=1,
    unimodal_channels=(50, 100, 200),
    intermediate_channels=(25, 50, 100),
    hidden=(1000, 100),
    late_hidden=10,
)
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
