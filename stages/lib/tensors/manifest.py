"""The manifest of a tensor cache: what the data are, in one JSON file, without the data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.lib.core.errors import UserError
from stages.lib.core.names import SPLITS

FILE = "manifest.json"


@dataclass(frozen=True)
class Normalization:
    """Per-channel shift and scale of one sensor's inputs; mean 0 and std 1 leave a channel alone."""

    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Manifest:
    """Everything that a reader of the cache has to know."""

    source: str  # dataset.path of the export
    digest: str  # SHA-256 over keys, scenes, labels, splits and tensors of all groups
    classes: list[str]  # in sorted order; a class's place is its label
    counts: dict[str, dict[str, int]]  # groups by split and class
    scenes: dict[str, int]  # scenes by split
    channels: dict[str, int]  # channels by sensor
    image_size: int  # height and width in pixels
    orientation: str  # how rasters were turned to lie on the pictures
    orientation_fits: dict[str, float]  # correlation of returns and foreground had it been another
    field_of_view_deg: dict[str, list[float]] | None  # that point clouds were projected with
    normalized: bool  # whether inputs are to be shifted and scaled
    statistics: dict[str, Normalization]  # by sensor, over the training split
    shards: dict[str, list[str]]  # files by split, in order
    warnings: list[str]

    @property
    def num_logits(self) -> int:
        """One logit for two classes, else one per class."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    @property
    def has_test_split(self) -> bool:
        return sum(self.counts["test"].values()) > 0

    def splits(self) -> list[str]:
        """The splits that hold groups."""
        return [split for split in SPLITS if sum(self.counts[split].values())]


def save(manifest: Manifest, folder: Path) -> None:
    """Writes the manifest; done last, so that its existence means a complete cache."""
    (folder / FILE).write_text(json.dumps(asdict(manifest), indent=2) + "\n")


def load(folder: Path) -> Manifest:
    """Reads a cache's manifest.

    Raises:
        UserError: when there is none.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro export` writes the tensor cache")
    content = json.loads(path.read_text())
    content["statistics"] = {
        sensor: Normalization(**values) for sensor, values in content["statistics"].items()
    }
    return Manifest(**content)


FOLDER = Path("data/tensors")  # of the tensor cache
PICTURES = "pictures"  # its folder of figures that show the data
