"""Plans the export: which groups each shard gets, and how they are decoded."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.datasets import splits
from stages.lib.datasets.reader import DatasetGroup, GroupReader
from stages.lib.export import decode
from stages.lib.export.decode import Job, Pool, Settings
from stages.lib.lidar import formats
from stages.lib.lidar.projection import FieldOfView
from stages.lib.params import Dataset, Export
from stages.lib.tensors import manifest as manifests

_MOST_IMAGES = 1000  # read at most, until one is readable and shows the number of colour channels


def in_order(groups: list[DatasetGroup]) -> list[DatasetGroup]:
    """Groups by split, the test split first: of a copy in two splits the one in the training split is left out."""
    return sorted(groups, key=lambda group: splits.ORDER.index(group.split))


def require_something_left(counts: dict[str, dict[str, int]], source: str) -> None:
    """Raises UserError when too few groups are left for training or for model selection."""
    learned = [count for count in counts["train"].values() if count]
    num_validation = sum(counts["validation"].values())
    if len(learned) < 2 or not num_validation:
        raise UserError(
            f"{source}: without its faulty groups (export.on_error: skip), {sum(learned)} training "
            f"groups of {len(learned)} classes and {num_validation} validation groups remain; training groups of two "
            "classes and one validation group are needed"
        )


def decoding_settings(groups: list[DatasetGroup], dataset: Dataset, settings: Export, pool: Pool) -> Settings:
    """How all groups are decoded; the data determine the number of colour channels and the field of view."""
    channels = decode.count_channels(
        [group.image_path for group in groups[:_MOST_IMAGES]], settings.image_size, settings.max_pixels, pool
    )
    return Settings(
        format=dataset.lidar.format,
        orientation=dataset.lidar.orientation,
        size=settings.image_size,
        max_pixels=settings.max_pixels,
        max_range_m=dataset.lidar.max_range_m,
        channels=channels,
        view=field_of_view(groups, dataset, settings.max_pixels, pool)
        if dataset.lidar.format == "pcd"
        else None,
    )


def field_of_view(groups: list[DatasetGroup], dataset: Dataset, max_pixels: int, pool: Pool) -> FieldOfView:
    """The configured field of view, or the smallest one that contains the training split's point clouds."""
    configured = dataset.lidar.field_of_view_deg
    if configured is not None:
        azimuth, zenith = np.deg2rad(configured.azimuth), np.deg2rad(configured.zenith)
        return FieldOfView(tuple(azimuth.tolist()), tuple(zenith.tolist()))
    clouds = [group.scan_path for group in groups if group.split == "train"]
    view = decode.fit_view(clouds, max_pixels, dataset.lidar.max_range_m, pool)
    if view is None:
        raise UserError(
            f"{dataset.path}: no point cloud of the training split (slice '{dataset.lidar.slice}', "
            "dataset.lidar.slice) is readable and has points closer than dataset.lidar.max_range_m"
        )
    return view


def plan_shards(groups: list[DatasetGroup], shard_groups: int) -> list[tuple[Path, list[DatasetGroup]]]:
    """The file and the groups of each shard; a shard belongs to one split."""
    shards = []
    for split, members in itertools.groupby(groups, key=lambda group: group.split):
        for number, batch in enumerate(_batched(list(members), shard_groups)):
            shards.append((manifests.FOLDER / f"{split}-{number:05d}.safetensors", batch))
    return shards


def _batched(groups: list[DatasetGroup], size: int) -> Iterator[list[DatasetGroup]]:
    for start in range(0, len(groups), size):
        yield groups[start : start + size]


def make_jobs(
    reader: GroupReader, shards: list[tuple[Path, list[DatasetGroup]]], dataset: Dataset, max_pixels: int
) -> Iterator[tuple[Path, list[Job]]]:
    """The jobs of each shard. FiftyOne's documents are read for one shard at a time, to save memory."""
    every = [group for _, members in shards for group in members]
    labels = {name: index for index, name in enumerate(sorted({group.label for group in every}))}
    angles = {}
    if dataset.lidar.format in ("range", "npy"):
        # Thousands of scans share a folder, and therefore their angles.
        scan_path_of = {_folder_and_label(group): group.scan_path for group in every}
        angles = {
            (parent, label): formats.find_angles(
                reader.info, Path(dataset.path), Path(scan_path), label, max_pixels
            )
            for (parent, label), scan_path in scan_path_of.items()
        }
    for path, members in shards:
        yield (
            path,
            [
                Job(
                    image_path=group.image_path,
                    scan_path=group.scan_path,
                    field=field,
                    angles=angles.get(_folder_and_label(group)),
                    label=labels[group.label],
                    place=f"{dataset.path}: {group.key}",
                )
                for group, field in zip(members, reader.fields(members), strict=True)
            ],
        )


def _folder_and_label(group: DatasetGroup) -> tuple[str, str]:
    return os.path.dirname(group.scan_path), group.label
