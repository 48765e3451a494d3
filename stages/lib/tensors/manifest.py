"""The manifest of the tensor cache: one JSON file that describes the data; and the cache's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from stages.lib.core.errors import UserError
from stages.lib.core.names import SPLITS

FOLDER = Path("data/tensors")  # of the tensor cache
FILE = "manifest.json"
FIGURES = "pictures"  # subfolder with the figures of the data


@dataclass(frozen=True)
class Normalization:
    """Per-channel shift and scale of one sensor's inputs; mean 0 and std 1 leave a channel unchanged."""

    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Condition:
    """A field by which the groups are divided, such as the weather."""

    name: str
    values: list[str]  # bins of a number in ascending order, else the most frequent one first
    edges: list[float] | None  # of the bins of a number
    slices: list[str]  # group slices whose samples held it; empty for the number of returns
    counts: dict[str, dict[str, int]]  # groups by split and value


@dataclass(frozen=True)
class NearCopy:
    """A group that looks almost like one of another split."""

    group: str
    split: str
    other_group: str
    other_split: str
    # From 0, the same, to about 2; export/near_copies.py defines them.
    picture_distance: float
    raster_distance: float | None  # None where a raster has no return


@dataclass(frozen=True)
class Manifest:
    """Everything that a reader of the cache needs to know."""

    source: str  # dataset.path of the export
    digest: str  # SHA-256 over keys, scenes, labels, splits and tensors of all groups
    classes: list[str]  # in sorted order; a class's index in this list is its label
    counts: dict[str, dict[str, int]]  # groups by split and class
    scenes: dict[str, int]  # scenes by split
    channels: dict[str, int]  # channels by sensor
    image_size: int  # height and width in pixels
    orientation: str  # how rasters were turned to cover the images
    orientation_fits: dict[
        str, float
    ]  # by orientation: correlation of the returns with the images' foreground
    field_of_view_deg: dict[str, list[float]] | None  # of point clouds, when they were projected
    normalized: bool  # whether network inputs are shifted and scaled
    statistics: dict[str, Normalization]  # by sensor, over the training split
    shards: dict[str, list[str]]  # files by split, in order
    # By split, numbers of LiDAR returns: `stored` in the dataset, `kept` in the cache, and those lost by cause.
    returns: dict[str, dict[str, int]]
    warnings: list[str]
    near_copies: list[NearCopy]  # pairs across splits, the closest first; at most 100
    near_copy_counts: dict[str, dict[str, int]]  # groups with one, by their split and that of the copy
    conditions: list[Condition] = field(default_factory=list)

    @property
    def num_logits(self) -> int:
        """One logit for two classes, otherwise one for each class."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    @property
    def has_test_split(self) -> bool:
        return sum(self.counts["test"].values()) > 0

    @property
    def class_shares(self) -> Float[np.ndarray, "L"]:
        """Share of each class in the training split; 0 for a class that is absent there."""
        counts = np.array([self.counts["train"][name] for name in self.classes])
        return counts / counts.sum()

    def splits(self) -> list[str]:
        """The splits that contain groups."""
        return [split for split in SPLITS if sum(self.counts[split].values())]


def save(manifest: Manifest, folder: Path) -> None:
    """Writes the manifest. Call it last: where there is a manifest, the cache is complete."""
    (folder / FILE).write_text(json.dumps(asdict(manifest), indent=2) + "\n")


def load(folder: Path) -> Manifest:
    """Reads the manifest of a cache.

    Raises:
        UserError: when there is no manifest.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro export` writes the tensor cache")
    content = json.loads(path.read_text())
    content["statistics"] = {
        sensor: Normalization(**values) for sensor, values in content["statistics"].items()
    }
    content["conditions"] = [Condition(**values) for values in content["conditions"]]
    content["near_copies"] = [NearCopy(**pair) for pair in content["near_copies"]]
    return Manifest(**content)
