"""The tensor cache: safetensors shards, a table of the groups, a manifest; written and read here.

Pictures are kept as uint8 and scaled on use; rasters are float32 XYZA. Shards are mapped into
memory, so parallel workers share one copy.

    N = groups of a split;  B = batch;  C = colour channels;  S = side in pixels
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import torch
from jaxtyping import Float, Int, UInt8
from safetensors import safe_open
from torch import Tensor

from stages.lib import lidar
from stages.lib import manifest as manifests
from stages.lib.manifest import SPLITS, Manifest, Normalization

FOLDER = Path("data/tensors")
GROUPS_FILE = "groups.parquet"


@dataclass(frozen=True)
class Group:
    """What is known of one group, beside its tensors."""

    split: str
    group: str  # its key
    scene: str
    label: int
    returns: int  # number of LiDAR returns
    mean_range_m: float  # mean range of the returns; 0 where there is none


class _Moments:
    """Running mean and standard deviation of a number of channels, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = np.zeros(0)
        self.sum_of_squares = np.zeros(0)

    def add(self, values: Float[np.ndarray, "C N"]) -> None:
        values = values.astype(np.float64)
        if not self.count:
            self.sum, self.sum_of_squares = np.zeros((2, len(values)))
        self.count += values.shape[1]
        self.sum += values.sum(axis=1)
        self.sum_of_squares += (values**2).sum(axis=1)

    def normalization(self, untouched: int) -> Normalization:
        """Mean and deviation, followed by `untouched` channels that are left as they are."""
        mean = self.sum / max(self.count, 1)
        variance = self.sum_of_squares / max(self.count, 1) - mean**2
        # A channel that never varies has nothing to scale by.
        std = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 0)), 1.0)
        return Normalization([*mean.tolist(), *[0.0] * untouched], [*std.tolist(), *[1.0] * untouched])


class Writer:
    """Writes groups one at a time; a shard goes to disk as soon as it is full."""

    def __init__(self, folder: Path, classes: list[str], shard_groups: int) -> None:
        """`classes`: all labels in sorted order; `shard_groups`: groups per file."""
        self._folder = folder
        self._classes = classes
        self._shard_groups = shard_groups
        self._open: dict[str, list[tuple[np.ndarray, np.ndarray, int]]] = {s: [] for s in SPLITS}
        self._shards: dict[str, list[str]] = {split: [] for split in SPLITS}
        self._groups: dict[str, list[Group]] = {split: [] for split in SPLITS}
        self._digests: dict[str, str] = {}
        self._rgb_moments = _Moments()
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
    ) -> None:
        """Appends a group to a split; groups keep the order in which they come."""
        index = self._classes.index(label)
        range_m = lidar.ranges(xyza)
        mean_range_m = float(range_m.mean()) if range_m.size else 0.0
        self._groups[split].append(Group(split, key, scene, index, range_m.size, mean_range_m))
        story = "\0".join([key, scene, label, split]).encode()
        self._digests[key] = hashlib.sha256(story + b"\0" + rgb.tobytes() + xyza.tobytes()).hexdigest()
        self._rgb_shape = rgb.shape
        if split == "train":
            self._gather_statistics(rgb, xyza)
        self._open[split].append((rgb, xyza, index))
        if len(self._open[split]) == self._shard_groups:
            self._flush(split)

    def close(self, *, source: str, orientation: str, normalize: bool, warnings: list[str]) -> Manifest:
        """Writes what is left, the table of groups and, last, the manifest."""
        for split in SPLITS:
            self._flush(split)
        _write_groups([group for split in SPLITS for group in self._groups[split]], self._folder)
        lines = [f"{key} {self._digests[key]}" for key in sorted(self._digests)]
        manifest = Manifest(
            source=source,
            digest=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            classes=self._classes,
            counts={split: self._count_classes(split) for split in SPLITS},
            scenes={split: len({group.scene for group in self._groups[split]}) for split in SPLITS},
            channels={"rgb": self._rgb_shape[0], "lidar": 4},
            image_size=self._rgb_shape[-1],
            orientation=orientation,
            normalized=normalize,
            statistics={
                "rgb": self._rgb_moments.normalization(self._rgb_shape[0] - self._num_colors()),
                "lidar": self._lidar_normalization(),
            },
            shards=self._shards,
            warnings=[*warnings, *self._unseen_classes()],
        )
        manifests.save(manifest, self._folder)
        return manifest

    def _num_colors(self) -> int:
        """Colour channels without alpha, whose spread says nothing."""
        return min(self._rgb_shape[0], 3)

    def _gather_statistics(self, rgb: np.ndarray, xyza: np.ndarray) -> None:
        colors = self._num_colors()
        self._rgb_moments.add(rgb[:colors].reshape(colors, -1) / 255)
        points = xyza[:3, xyza[3] > 0]
        if points.size:
            centered = points - points.mean(axis=1, keepdims=True)
            self._relief_squares += float((centered.astype(np.float64) ** 2).sum())
        self._relief_values += xyza[:3].size

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
        if not self._open[split]:
            return
        rgb, xyza, labels = zip(*self._open[split], strict=True)
        name = f"{split}-{len(self._shards[split]):05d}.safetensors"
        content = {"rgb": np.stack(rgb), "lidar": np.stack(xyza), "label": np.array(labels)}
        safetensors.numpy.save_file(content, self._folder / name)
        self._shards[split].append(name)
        self._open[split] = []


def _write_groups(groups: list[Group], folder: Path) -> None:
    columns = Group.__dataclass_fields__
    table = pa.table({name: [getattr(group, name) for group in groups] for name in columns})
    pq.write_table(table, folder / GROUPS_FILE)


def read_groups(folder: Path, split: str) -> list[Group]:
    """The groups of a split, in the order of their tensors."""
    rows = pq.read_table(folder / GROUPS_FILE, filters=[("split", "=", split)]).to_pylist()
    return [Group(**row) for row in rows]


class Split:
    """One split's tensors, mapped from disk; `batch` gives them as the networks want them."""

    def __init__(self, folder: Path, manifest: Manifest, split: str) -> None:
        self._rgb: list[UInt8[Tensor, "N C S S"]] = []
        self._lidar: list[Float[Tensor, "N 4 S S"]] = []
        labels = []
        for name in manifest.shards[split]:
            with safe_open(folder / name, framework="pt") as shard:
                self._rgb.append(shard.get_tensor("rgb"))
                self._lidar.append(shard.get_tensor("lidar"))
                labels.append(shard.get_tensor("label"))
        self.labels: Int[Tensor, "N"] = torch.cat(labels)
        # Every shard but a split's last holds the same number of groups.
        self._shard_groups = len(self._rgb[0])
        self._normalized = manifest.normalized
        self._statistics = manifest.statistics

    def __len__(self) -> int:
        return len(self.labels)

    def stored(self, index: int) -> tuple[UInt8[np.ndarray, "C S S"], Float[np.ndarray, "4 S S"]]:
        """One group's picture and raster as they lie in the cache."""
        shard, row = divmod(index, self._shard_groups)
        return self._rgb[shard][row].numpy(), self._lidar[shard][row].numpy()

    def batch(self, indices: Sequence[int]) -> tuple[Float[Tensor, "B C S S"], Float[Tensor, "B 4 S S"]]:
        """Network inputs of these groups: colours in 0..1 and coordinates in metres, normalised."""
        places = [divmod(index, self._shard_groups) for index in indices]
        rgb = torch.stack([self._rgb[shard][row] for shard, row in places]).float() / 255
        xyza = torch.stack([self._lidar[shard][row] for shard, row in places])
        if self._normalized:
            rgb = _standardized(rgb, self._statistics["rgb"])
            xyza = _standardized(_centered(xyza), self._statistics["lidar"])
        return rgb, xyza


def _centered(xyza: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "B 4 S S"]:
    """Coordinates relative to the centroid of each scan's returns; cells without one stay zero.

    What tells shapes apart is a relief of a metre; at 20 m it would drown in the object's position,
    which the raster shows anyway.
    """
    returned = xyza[:, 3:]
    count = returned.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    centroid = xyza[:, :3].sum(dim=(2, 3), keepdim=True) / count
    return torch.cat([(xyza[:, :3] - centroid) * returned, returned], dim=1)


def _standardized(values: Float[Tensor, "B C S S"], statistics: Normalization) -> Float[Tensor, "B C S S"]:
    mean, std = torch.tensor(statistics.mean), torch.tensor(statistics.std)
    return (values - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
