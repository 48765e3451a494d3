"""The sizes that networks are built from: of the data, and of the group `network` in params.yaml."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from stages.lib import fusions
from stages.lib.params import Network
from stages.lib.tensors.manifest import Manifest

_UNUSED = {  # by kind of model
    "unimodal": ("late_hidden", "fuse_after"),
    "early": ("unimodal_channels", "late_hidden"),
    "intermediate": ("unimodal_channels", "late_hidden"),
    "late": ("fuse_after",),
}


@dataclass(frozen=True)
class Architecture:
    """Sizes of the data, sizes and initial weights of params.yaml: together they determine every network."""

    rgb_channels: int
    lidar_channels: int
    image_size: int
    num_logits: int
    unimodal_channels: tuple[int, ...]
    intermediate_channels: tuple[int, ...]
    hidden: tuple[int, ...]
    late_hidden: int
    fuse_after: int = 3  # blocks of each sensor's encoder before the fusion
    downsample: str = "maxpool"  # or "stride"
    match_parameters: bool = False
    init: str = "pytorch"  # or "lecun"

    @classmethod
    def from_settings(cls, manifest: Manifest, network: Network) -> Architecture:
        """For the data of this manifest and these settings."""
        return cls(
            rgb_channels=manifest.channels["rgb"],
            lidar_channels=manifest.channels["lidar"],
            image_size=manifest.image_size,
            num_logits=manifest.num_logits,
            **vars(network),
        )

    def map_side(self, num_blocks: int) -> int:
        """Height and width of the maps after so many blocks."""
        side = self.image_size
        for _ in range(num_blocks):
            side = side // 2 if self.downsample == "maxpool" else -(-side // 2)
        return side


def facts(name: str, architecture: Architecture) -> dict[str, Any]:
    """The values of an architecture that this model depends on; they are stored with its results."""
    unused = _UNUSED[fusions.spec(name).kind]
    return {key: value for key, value in asdict(architecture).items() if key not in unused}


def from_facts(stored: dict[str, Any]) -> Architecture:
    """The architecture behind a model's `facts`; values that the model does not depend on are empty."""
    unused: dict[str, Any] = {"unimodal_channels": (), "intermediate_channels": (), "late_hidden": 0}
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    return Architecture(**(unused | values))
