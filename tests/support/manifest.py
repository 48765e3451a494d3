"""The manifest of a tensor cache that nobody has written."""

from __future__ import annotations

from stages.lib.lidar.returns import Losses
from stages.lib.tensors.manifest import Manifest, Normalization


def made_up_manifest(
    classes: tuple[str, ...], counts: dict[str, dict[str, int]], scenes: dict[str, int]
) -> Manifest:
    return Manifest(
        source="data/made-up",
        digest="0123456789abcdef" * 4,
        classes=list(classes),
        counts=counts,
        scenes=scenes,
        channels={"rgb": 3, "lidar": 4},
        image_size=64,
        orientation="as-is",
        orientation_fits={},
        field_of_view_deg=None,
        normalized=True,
        statistics={sensor: Normalization([0.0], [1.0]) for sensor in ("rgb", "lidar")},
        shards={},
        returns={split: Losses(stored=1000).counts() for split in counts},
        warnings=["something about the data"],
        near_copies=[],
        near_copy_counts={},
    )
