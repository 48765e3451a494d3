"""Plans the export: which groups each shard gets, and how they are decoded."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.datasets import splits
from stages.lib.datasets.reader import DatasetGroup, GroupReader
from stages.lib.datasets.validation import DataChecks
from stages.lib.export import decode, survey
from stages.lib.export.decode import Pool, Settings
from stages.lib.export.scans import Job, ScanSettings
from stages.lib.lidar import formats
from stages.lib.lidar.projection import FieldOfView
from stages.lib.lidar.returns import CAUSES, Losses
from stages.lib.params import Dataset, Export, LidarSource
from stages.lib.tensors import manifest as manifests


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


def require_returns(losses: Losses, source: str) -> None:
    """Raises UserError when no LiDAR return of the training split is left: the LiDAR network would learn nothing."""
    if losses.kept:
        return
    causes = ", ".join(
        f"{getattr(losses, cause):,} {text}" for cause, text in CAUSES.items() if getattr(losses, cause)
    )
    raise UserError(
        f"{source}: no LiDAR return of the training split is left of {losses.stored:,} stored ones"
        + (f" ({causes}); " if causes else "; ")
        + "check dataset.lidar.unit, axes, max_range_m and field_of_view_deg"
    )


def decoding_settings(
    reader: GroupReader,
    groups: list[DatasetGroup],
    dataset: Dataset,
    settings: Export,
    pool: Pool,
    checks: DataChecks,
) -> Settings:
    """How all groups are decoded; the data determine colour channels, white and the field of view.

    Args:
        checks: receives warnings about settings that the data contradict.

    Raises:
        UserError: when the data cannot be what the settings say.
    """
    lidar = dataset.lidar
    scan = scan_settings(lidar, settings.max_pixels, configured_view(lidar))
    looks = survey.look(sample_jobs(reader, groups, dataset, settings.max_pixels), scan, pool)
    warnings = survey.scan_warnings(looks, scan, dataset.path)
    if lidar.format == "pcd":
        scan = replace(scan, view=scan.view or fitted_view(groups, scan, dataset, pool))
        assert scan.view is not None
        warnings += survey.view_warnings(looks, scan.view, lidar.orientation)
    white, guess = survey.white(
        survey.images_of(looks),
        [group.image_path for group in groups],
        dataset.rgb.max_value,
        settings.max_pixels,
        pool,
        dataset.path,
    )
    for warning in [*warnings, *filter(None, [guess])]:
        checks.note(warning)
    return Settings(settings.image_size, survey.most_channels(looks), white, scan)


def scan_settings(lidar: LidarSource, max_pixels: int, view: FieldOfView | None) -> ScanSettings:
    """How every scan is read.

    Args:
        view: of point clouds; None for all other formats, and until it is fitted.
    """
    return ScanSettings(
        format=lidar.format,
        axes=lidar.axes,
        unit=lidar.unit,
        orientation=lidar.orientation,
        max_pixels=max_pixels,
        max_range_m=lidar.max_range_m,
        view=view,
    )


def configured_view(lidar: LidarSource) -> FieldOfView | None:
    """The field of view that params.yaml gives for point clouds."""
    configured = lidar.field_of_view_deg
    if configured is None or lidar.format != "pcd":
        return None
    return FieldOfView.from_degrees(configured.azimuth, configured.zenith)


def fitted_view(
    groups: list[DatasetGroup], settings: ScanSettings, dataset: Dataset, pool: Pool
) -> FieldOfView:
    """The smallest field of view that contains the training split's point clouds."""
    clouds = [group.scan_path for group in groups if group.split == "train"]
    if not clouds:  # all have errors, which are raised when all groups have been looked at
        return FieldOfView((0.0, 0.0), (0.0, 0.0))
    view = decode.fit_view(clouds, settings, pool)
    if isinstance(view, str):
        raise UserError(
            f"{dataset.path}: no point cloud of the training split (slice '{dataset.lidar.slice}', "
            f"dataset.lidar.slice) can be used; the first one: {view}"
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


def sample_jobs(
    reader: GroupReader, groups: list[DatasetGroup], dataset: Dataset, max_pixels: int
) -> list[Job]:
    """The jobs of some groups, spread over all of these."""
    places = np.linspace(0, len(groups) - 1, min(survey.SAMPLE, len(groups))).astype(int)
    sample = [(Path(), [groups[place] for place in places])]
    return [job for _, part in make_jobs(reader, sample, dataset, max_pixels) for job in part]


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
                reader.info, Path(dataset.path), Path(scan_path), label, max_pixels, dataset.lidar.angle_unit
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
