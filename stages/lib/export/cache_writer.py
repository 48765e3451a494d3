"""Completes the tensor cache, whose shards decode.py writes: the table of groups and the manifest's content."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.core.names import SPLITS
from stages.lib.datasets.condition_values import Value
from stages.lib.datasets.reader import DatasetGroup
from stages.lib.export import conditions, shards
from stages.lib.export.decode import Written
from stages.lib.export.group_stats import GroupStats
from stages.lib.export.near_copies import NearCopies
from stages.lib.lidar.returns import Losses
from stages.lib.params import ConditionField
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors.groups import CachedGroup
from stages.lib.tensors.manifest import Manifest, Normalization


class _Colors:
    """Running mean and standard deviation of the colours over the training images, in float64."""

    def __init__(self) -> None:
        self._sums = np.zeros(0)
        self._squares = np.zeros(0)
        self._pixels = 0

    def add(self, stats: GroupStats) -> None:
        sums, squares = stats.color_sums
        self._sums = self._sums + sums if self._pixels else sums
        self._squares = self._squares + squares if self._pixels else squares
        self._pixels += stats.num_pixels

    def normalization(self, num_channels: int) -> Normalization:
        """Mean and standard deviation of each colour. Alpha stays unchanged: its deviation means nothing."""
        mean = self._sums / max(self._pixels, 1)
        variance = self._squares / max(self._pixels, 1) - mean**2
        # A channel that never varies is not scaled.
        std = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 0)), 1.0)
        unchanged = num_channels - len(mean)
        return Normalization([*mean.tolist(), *[0.0] * unchanged], [*std.tolist(), *[1.0] * unchanged])


class Writer:
    """Collects the facts about all groups of the cache."""

    def __init__(self, folder: Path, classes: list[str]) -> None:
        """`classes`: all labels in sorted order."""
        self._folder = folder
        self.classes = classes
        self._condition_values: dict[str, list[dict[str, Value]]] = {split: [] for split in SPLITS}
        self.losses = {split: Losses() for split in SPLITS}  # of the returns of all groups in the cache
        self._shards: dict[str, list[str]] = {split: [] for split in SPLITS}
        self._rejected: dict[str, list[int]] = defaultdict(list)
        self._groups: dict[str, list[CachedGroup]] = {split: [] for split in SPLITS}
        self._digests: dict[str, str] = {}
        self._colors = _Colors()
        self._relief_squares = 0.0

    def add(self, group: DatasetGroup, written: Written) -> None:
        """Adds a group that lies in a shard; call it in the order of the rows."""
        stats, split = written.stats, group.split
        index = self.classes.index(group.label)
        self._groups[split].append(
            CachedGroup(split, group.key, group.scene, index, stats.returns, stats.mean_range_m)
        )
        self._condition_values[split].append(group.conditions)
        content = [group.key, group.scene, group.label, split, stats.image_digest, stats.raster_digest]
        self._digests[group.key] = hashlib.sha256("\0".join(content).encode()).hexdigest()
        self.losses[split] += written.facts.losses
        if split == "train":
            self._colors.add(stats)
            self._relief_squares += stats.relief_squares
        if written.shard not in self._shards[split]:
            self._shards[split].append(written.shard)

    def reject(self, written: Written) -> None:
        """Notes a group that lies in a shard and must be removed from it."""
        self._rejected[written.shard].append(written.row)

    def counts(self) -> dict[str, dict[str, int]]:
        """Groups by split and class."""
        return {split: self._count_classes(split) for split in SPLITS}

    def num_scenes(self) -> dict[str, int]:
        """Scenes by split."""
        return {split: len({group.scene for group in self._groups[split]}) for split in SPLITS}

    def close(
        self,
        *,
        source: str,
        channels: int,
        image_size: int,
        orientation: str,
        orientation_fits: dict[str, float],
        field_of_view_deg: dict[str, list[float]] | None,
        normalize: bool,
        condition_fields: list[ConditionField],
        condition_slices: dict[str, list[str]],
        warnings: list[str],
        near_copies: NearCopies,
    ) -> Manifest:
        """Removes rejected groups and writes the table of groups; returns the manifest, which the caller saves.

        Args:
            channels: colour channels of the images.
            condition_slices: by field, the slices whose samples hold it.
        """
        for shard, rows in self._rejected.items():
            shards.drop(self._folder / shard, rows)
        groups = [group for split in SPLITS for group in self._groups[split]]
        values = [own for split in SPLITS for own in self._condition_values[split]]
        divided, of_groups, doubts = conditions.divide(condition_fields, groups, values, condition_slices)
        for group, own in zip(groups, of_groups, strict=True):
            group.conditions.update(own)
        _write_groups(groups, self._folder)
        lines = [f"{key} {self._digests[key]}" for key in sorted(self._digests)]
        return Manifest(
            source=source,
            digest=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            classes=self.classes,
            counts=self.counts(),
            scenes=self.num_scenes(),
            channels={"rgb": channels, "lidar": 4},
            image_size=image_size,
            orientation=orientation,
            orientation_fits=orientation_fits,
            field_of_view_deg=field_of_view_deg,
            normalized=normalize,
            statistics={
                "rgb": self._colors.normalization(channels),
                "lidar": self._lidar_normalization(image_size),
            },
            shards=self._shards,
            returns={split: losses.counts() for split, losses in self.losses.items()},
            warnings=[*warnings, *self._unseen_classes(), *doubts],
            near_copies=near_copies.listed,
            near_copy_counts=near_copies.counts,
            conditions=divided,
        )

    def _lidar_normalization(self, image_size: int) -> Normalization:
        """One scale for x, y and z, so that shapes keep their proportions; channel a stays unchanged.

        The scale is the standard deviation over all cells, where those without return count as zero: as with the
        colours, which include the black background.
        """
        num_values = 3 * image_size**2 * len(self._groups["train"])
        scale = float(np.sqrt(self._relief_squares / num_values))
        return Normalization([0.0] * 4, [*[scale if scale > 0 else 1.0] * 3, 1.0])

    def _unseen_classes(self) -> list[str]:
        """Warnings about classes that training does not contain."""
        learned = self._count_classes("train")
        return [
            f"class '{name}' has no training group, so no model can learn it; its groups raise every loss"
            for name in self.classes
            if not learned[name]
        ]

    def _count_classes(self, split: str) -> dict[str, int]:
        counted = Counter(group.label for group in self._groups[split])
        return {name: counted[index] for index, name in enumerate(self.classes)}


def _write_groups(groups: list[CachedGroup], folder: Path) -> None:
    names = [name for name in CachedGroup.__dataclass_fields__ if name != "conditions"]
    columns = {name: [getattr(group, name) for group in groups] for name in names}
    table = pa.table(columns | stored_groups.condition_columns(groups))
    pq.write_table(table, folder / stored_groups.FILE)
