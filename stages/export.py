"""Turns the FiftyOne dataset into the tensor cache that training and evaluation read.

    python -m stages.export

Reads dataset.path of params.yaml; writes data/tensors/, the manifest last. What is wrong with the data
ends the export, all faults at once, or is written into the manifest.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stages.lib import params, store, terminal
from stages.lib.intake import checks, datasets, decoding, scans, splits
from stages.lib.intake.checks import DataChecks, OrientationCheck
from stages.lib.intake.datasets import Group, GroupReader
from stages.lib.intake.decoding import Job, Pool, Settings, Written
from stages.lib.intake.overview import Overview
from stages.lib.intake.scans import FieldOfView
from stages.lib.intake.tensor_writer import Writer
from stages.lib.params import Dataset, Export
from stages.lib.store import manifest as manifests
from stages.lib.store.manifest import Manifest
from stages.lib.terminal import UserError, progress

_LOOKED_AT = 1000  # pictures at most, for one that can be read and tells the colour channels


def main(arguments: Sequence[str] = ()) -> None:
    terminal.no_arguments(arguments)
    settings = params.load()
    manifest = export(settings.dataset, settings.export)
    for warning in manifest.warnings:
        terminal.report_line(f"warning: {settings.dataset.path}: {warning}")


def export(dataset: Dataset, settings: Export) -> Manifest:
    """The whole export; returns what it wrote as the manifest."""
    shutil.rmtree(store.FOLDER, ignore_errors=True)
    store.FOLDER.mkdir(parents=True)
    try:
        return write_cache(dataset, settings)
    except BaseException:
        # Half a cache is of no use, and it would stand in the way of `dvc checkout`.
        shutil.rmtree(store.FOLDER, ignore_errors=True)
        raise


def write_cache(dataset: Dataset, settings: Export) -> Manifest:
    data_checks = DataChecks(dataset.path, settings.on_error)
    orientation = OrientationCheck(dataset.lidar.orientation)
    overview = Overview(dataset.lidar.max_range_m)
    with decoding.started(settings.workers) as pool, datasets.opened(dataset, data_checks) as reader:
        groups = in_order(splits.assign(reader.groups, dataset.test_fraction, data_checks))
        writer = Writer(store.FOLDER, sorted({group.label for group in groups}))
        how = decoding_settings(groups, dataset, settings, pool)
        written = write_groups(reader, groups, how, dataset, settings, pool)
        for group, result in progress.track(written, "exporting", len(groups), "group"):
            if isinstance(result, str):
                data_checks.error("unreadable", result)
            elif admit(group, result, data_checks):
                writer.add(group.split, group.key, group.scene, group.label, result)
                overview.add(group.split, group.label, result.facts)
                if group.split == "train":
                    orientation.add(result.facts.fits)
            else:
                writer.reject(result)
    data_checks.raise_errors()
    require_something_left(writer.counts(), dataset.path)
    for warning in (orientation.warning(), checks.imbalance(writer.counts()["train"])):
        if warning:
            data_checks.note(warning)
    manifest = writer.close(
        source=dataset.path,
        channels=how.channels,
        image_size=how.size,
        orientation=dataset.lidar.orientation,
        orientation_fits=orientation.means(),
        field_of_view_deg=how.view.degrees() if how.view is not None else None,
        normalize=settings.normalize,
        warnings=data_checks.warnings(),
    )
    overview.draw(store.FOLDER, manifest)
    manifests.save(manifest, store.FOLDER)
    return manifest


def in_order(groups: list[Group]) -> list[Group]:
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


def decoding_settings(groups: list[Group], dataset: Dataset, settings: Export, pool: Pool) -> Settings:
    """How all groups are decoded; colour channels and field of view are found out from the data."""
    channels = decoding.count_channels(
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


def field_of_view(groups: list[Group], dataset: Dataset, max_pixels: int, pool: Pool) -> FieldOfView:
    """The configured field of view of point clouds, or the one that holds the training split's."""
    configured = dataset.lidar.field_of_view_deg
    if configured is not None:
        azimuth, zenith = np.deg2rad(configured.azimuth), np.deg2rad(configured.zenith)
        return FieldOfView(tuple(azimuth.tolist()), tuple(zenith.tolist()))
    clouds = [group.scan for group in groups if group.split == "train"]
    view = decoding.fit_view(clouds, max_pixels, dataset.lidar.max_range_m, pool)
    if view is None:
        raise UserError(
            f"{dataset.path}: no point cloud of the training split (slice '{dataset.lidar.slice}', "
            "dataset.lidar.slice) can be read and has points within dataset.lidar.max_range_m"
        )
    return view


def write_groups(
    reader: GroupReader,
    groups: list[Group],
    how: Settings,
    dataset: Dataset,
    settings: Export,
    pool: Pool,
) -> Iterator[tuple[Group, Written | str]]:
    """Writes the shards; gives each group with its place there, or with what is wrong with it."""
    shards = plan_shards(groups, settings.shard_groups)
    work = make_jobs(reader, shards, dataset, settings.max_pixels)
    results = decoding.write_shards(work, how, pool)
    for (_, members), outcomes in zip(shards, results, strict=True):
        yield from zip(members, outcomes, strict=True)


def plan_shards(groups: list[Group], shard_groups: int) -> list[tuple[Path, list[Group]]]:
    """Each shard's file and groups, all of one split."""
    shards = []
    for split, members in itertools.groupby(groups, key=lambda group: group.split):
        for number, batch in enumerate(batched(list(members), shard_groups)):
            shards.append((store.FOLDER / f"{split}-{number:05d}.safetensors", batch))
    return shards


def batched(groups: list[Group], size: int) -> Iterator[list[Group]]:
    for start in range(0, len(groups), size):
        yield groups[start : start + size]


def make_jobs(
    reader: GroupReader, shards: list[tuple[Path, list[Group]]], dataset: Dataset, max_pixels: int
) -> Iterator[tuple[Path, list[Job]]]:
    """Work for the decoding processes; FiftyOne's documents are read a shard at a time."""
    every = [group for _, members in shards for group in members]
    labels = {name: index for index, name in enumerate(sorted({group.label for group in every}))}
    angles = {}
    if dataset.lidar.format in ("range", "npy"):
        # Thousands of scans share a folder, and with it their angles.
        scan_of = {(os.path.dirname(group.scan), group.label): group.scan for group in every}
        angles = {
            (parent, label): scans.find_angles(reader.info, Path(dataset.path), Path(scan), label, max_pixels)
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


def admit(group: Group, result: Written, data_checks: DataChecks) -> bool:
    """Whether the group stays in the cache; what is wrong or odd about it is noted."""
    facts = result.facts
    contents = {}
    if facts.is_constant:
        data_checks.warn("constant", group.key)
    else:
        contents["picture"] = facts.picture_digest
    if facts.returns:
        contents["scan"] = facts.scan_digest
    else:
        data_checks.warn("empty", group.key)
    if result.num_far:
        data_checks.warn("out_of_range", group.key)
    return data_checks.admit_content(contents, group=group.key, split=group.split, label=group.label)


if __name__ == "__main__":
    terminal.run(main)
