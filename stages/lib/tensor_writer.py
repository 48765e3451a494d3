"""Writes the tensor cache: safetensors shards and a table of the groups; lib/tensors.py reads them.

C = colour channels;  S = side in pixels
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from jaxtyping import Float, UInt8

from stages.lib.inspection import Inspection
from stages.lib.manifest import SPLITS, Manifest, Normalization
from stages.lib.tensors import GROUPS_FILE, Group


class _Colors:
    """Running mean and deviation of the colours over the training pictures, in float64."""

    def __init__(self) -> None:
        self._sums = np.zeros(0)
        self._squares = np.zeros(0)
        self._pixels = 0

    def add(self, facts: Inspection, pixels: int) -> None:
        sums, squares = facts.color_sums
        self._sums = self._sums + sums if self._pixels else sums
        self._squares = self._squares + squares if self._pixels else squares
        self._pixels += pixels

    def normalization(self, num_channels: int) -> Normalization:
        """Mean and deviation; a channel of alpha, whose spread says nothing, is left as it is."""
        mean = self._sums / max(self._pixels, 1)
        variance = self._squares / max(self._pixels, 1) - mean**2
        # A channel that never varies has nothing to scale by.
        std = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 0)), 1.0)
        untouched = num_channels - len(mean)
        return Normalization([*mean.tolist(), *[0.0] * untouched], [*std.tolist(), *[1.0] * untouched])


class _Shard:
    """Room for the groups of one file, filled from the start."""

    def __init__(self, num_groups: int, rgb_shape: tuple[int, ...], xyza_shape: tuple[int, ...]) -> None:
        self._rgb = np.empty((num_groups, *rgb_shape), np.uint8)
        self._xyza = np.empty((num_groups, *xyza_shape), np.float32)
        self._labels = np.empty(num_groups, np.int64)
        self.filled = 0

    def add(self, rgb: UInt8[np.ndarray, "C S S"], xyza: Float[np.ndarray, "4 S S"], label: int) -> None:
        self._rgb[self.filled], self._xyza[self.filled], self._labels[self.filled] = rgb, xyza, label
        self.filled += 1

    def save(self, path: Path) -> None:
        content = {"rgb": self._rgb, "lidar": self._xyza, "label": self._labels}
        safetensors.numpy.save_file({name: part[: self.filled] for name, part in content.items()}, path)


class Writer:
    """Writes groups one at a time; a shard goes to disk as soon as it is full."""

    def __init__(self, folder: Path, classes: list[str], shard_groups: int) -> None:
        """`classes`: all labels in sorted order; `shard_groups`: groups per file."""
        self._folder = folder
        self._classes = classes
        self._shard_groups = shard_groups
        self._open: dict[str, _Shard] = {}
        self._shards: dict[str, list[str]] = {split: [] for split in SPLITS}
        self._groups: dict[str, list[Group]] = {split: [] for split in SPLITS}
        self._digests: dict[str, str] = {}
        self._colors = _Colors()
        self._relief_squares = 0.0
        self._relief_values = 0
        self._rgb_shape: tuple[int, ...] = ()
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        *,
        split: str,
        key: str,
        scene: str,
        label: str,
        rgb: UInt8[np.ndarray, "C S S"],
        xyza: Float[np.ndarray, "4 S S"],
        facts: Inspection,
    ) -> None:
        """Appends a group to a split; groups keep the order in which they come."""
        index = self._classes.index(label)
        self._groups[split].append(Group(split, key, scene, index, facts.returns, facts.mean_range_m))
        story = [key, scene, label, split, facts.picture_digest, facts.scan_digest]
        self._digests[key] = hashlib.sha256("\0".join(story).encode()).hexdigest()
        self._rgb_shape = rgb.shape
        if split == "train":
            self._colors.add(facts, rgb[0].size)
            self._relief_squares += facts.relief_squares
            self._relief_values += xyza[:3].size
        shard = self._open.get(split) or _Shard(self._shard_groups, rgb.shape, xyza.shape)
        self._open[split] = shard
        shard.add(rgb, xyza, index)
        if shard.filled == self._shard_groups:
            self._flush(split)

    def close(
        self,
        *,
        source: str,
        orientation: str,
        orientation_fits: dict[str, float],
        field_of_view_deg: dict[str, list[float]] | None,
        normalize: bool,
        warnings: list[str],
    ) -> Manifest:
        """Writes what is left and the table of groups; gives the manifest, which is still to be saved."""
        for split in SPLITS:
            self._flush(split)
        _write_groups([group for split in SPLITS for group in self._groups[split]], self._folder)
        lines = [f"{key} {self._digests[key]}" for key in sorted(self._digests)]
        return Manifest(
            source=source,
            digest=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            classes=self._classes,
            counts={split: self._count_classes(split) for split in SPLITS},
            scenes={split: len({group.scene for group in self._groups[split]}) for split in SPLITS},
            channels={"rgb": self._rgb_shape[0], "lidar": 4},
            image_size=self._rgb_shape[-1],
            orientation=orientation,
            orientation_fits=orientation_fits,
            field_of_view_deg=field_of_view_deg,
            normalized=normalize,
            statistics={
                "rgb": self._colors.normalization(self._rgb_shape[0]),
                "lidar": self._lidar_normalization(),
            },
            shards=self._shards,
            warnings=[*warnings, *self._unseen_classes()],
        )

    def _lidar_normalization(self) -> Normalization:
        """One scale for x, y and z, so that shapes are not stretched; the mask stays as it is.

        As with the colours, whose background is black, it is the deviation over all cells: those
        without a return count as zero.
        """
        scale = float(np.sqrt(self._relief_squares / self._relief_values))
        return Normalization([0.0] * 4, [*[scale if scale > 0 else 1.0] * 3, 1.0])

    def _unseen_classes(self) -> list[str]:
        """Warnings about classes that no model can learn."""
        learned = self._count_classes("train")
        return [
            f"class '{name}' has no training group, so no model can learn it; it weighs on every loss"
            for name in self._classes
            if not learned[name]
        ]

    def _count_classes(self, split: str) -> dict[str, int]:
        counted = Counter(group.label for group in self._groups[split])
        return {name: counted[index] for index, name in enumerate(self._classes)}

    def _flush(self, split: str) -> None:
        shard = self._open.pop(split, None)
        if shard is not None:
            name = f"{split}-{len(self._shards[split]):05d}.safetensors"
            shard.save(self._folder / name)
            self._shards[split].append(name)


def _write_groups(groups: list[Group], folder: Path) -> None:
    columns = Group.__dataclass_fields__
    table = pa.table({name: [getattr(group, name) for group in groups] for name in columns})
    pq.write_table(table, folder / GROUPS_FILE)
