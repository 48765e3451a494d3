"""What the export has to do: which groups go to which shard, and how they are decoded."""

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

_LOOKED_AT = 1000  # pictures at most, for one that can be read and tells the colour channels


def in_order(groups: list[DatasetGroup]) -> list[DatasetGroup]:
    """Split by split, so that of copies in two splits it is the training split's that is left out."""
    return sorted(groups, key=lambda group: splits.ORDER.index(group.split))


def require_something_left(counts: dict[str, dict[str, int]], source: str) -> None:
    """Raises UserError when so many groups were skipped that nothing can be trained or selected on."""
    learned = [count for count in counts["train"].values() if count]
    num_validation = sum(counts["validation"].values())
    if len(learned) < 2 or not num_validation:
        raise UserError(
            f"{source}: with its faulty groups left out (export.on_error: skip), {sum(learned)} training "
            f"groups of {len(learned)} classes and {num_validation} validation groups remain; two classes "
            "and one validation group are needed"
        )


def decoding_settings(groups: list[DatasetGroup], dataset: Dataset, settings: Export, pool: Pool) -> Settings:
    """How all groups are decoded; colour channels and field of view are found out from the data."""
    channels = decode.count_channels(
        [group.picture for group in groups[:_LOOKED_AT]], settings.image_size, settings.max_pixels, pool
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
    """The configured field of view of point clouds, or the one that holds the training split's."""
    configured = dataset.lidar.field_of_view_deg
    if configured is not None:
        azimuth, zenith = np.deg2rad(configured.azimuth), np.deg2rad(configured.zenith)
        return FieldOfView(tuple(azimuth.tolist()), tuple(zenith.tolist()))
    clouds = [group.scan for group in groups if group.split == "train"]
    view = decode.fit_view(clouds, max_pixels, dataset.lidar.max_range_m, pool)
    if view is None:
        raise UserError(
            f"{dataset.path}: no point cloud of the training split (slice '{dataset.lidar.slice}', "
            "dataset.lidar.slice) can be read and has points within dataset.lidar.max_range_m"
        )
    return view


def plan_shards(groups: list[DatasetGroup], shard_groups: int) -> list[tuple[Path, list[DatasetGroup]]]:
    """Each shard's file and groups, all of one split."""
    shards = []
    for split, members in itertools.groupby(groups, key=lambda group: group.split):
        for number, batch in enumerate(batched(list(members), shard_groups)):
            shards.append((manifests.FOLDER / f"{split}-{number:05d}.safetensors", batch))
    return shards


def batched(groups: list[DatasetGroup], size: int) -> Iterator[list[DatasetGroup]]:
    for start in range(0, len(groups), size):
        yield groups[start : start + size]


def make_jobs(
    reader: GroupReader, shards: list[tuple[Path, list[DatasetGroup]]], dataset: Dataset, max_pixels: int
) -> Iterator[tuple[Path, list[Job]]]:
    """Work for the decoding processes; FiftyOne's documents are read a shard at a time."""
    every = [group for _, members in shards for group in members]
    labels = {name: index for index, name in enumerate(sorted({group.label for group in every}))}
    angles = {}
    if dataset.lidar.format in ("range", "npy"):
        # Thousands of scans share a folder, and with it their angles.
        scan_of = {(os.path.dirname(group.scan), group.label): group.scan for group in every}
        angles = {
            (parent, label): formats.find_angles(
                reader.info, Path(dataset.path), Path(scan), label, max_pixels
            )
            for (parent, label), scan in scan_of.items()
        }
    for path, members in shards:
        yield (
            path,
            [
                Job(
                    picture=group.picture,
                    scan=group.scan,
                    field=field,
                    angles=angles.get((os.path.dirname(group.scan), group.label)),
                    label=labels[group.label],
                    place=f"{dataset.path}: {group.key}",
                )
                for group, field in zip(members, reader.fields(members), strict=True)
            ],
        )
