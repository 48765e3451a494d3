"""Turns the FiftyOne dataset into the tensor cache that training and evaluation read.

    python -m stages.export

Reads dataset.path of params.yaml; writes data/tensors/, the manifest last. What is wrong with the data
ends the export, all faults at once, or is written into the manifest.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import numpy as np

from stages.lib import checks, datasets, decoding, params, scans, splits, tensors, terminal
from stages.lib import manifest as manifests
from stages.lib.checks import DataChecks, OrientationCheck
from stages.lib.datasets import Group, GroupReader
from stages.lib.decoding import Decoded, Job, Settings
from stages.lib.manifest import Manifest
from stages.lib.overview import Overview
from stages.lib.params import Dataset, Export
from stages.lib.scans import Angles, FieldOfView
from stages.lib.tensor_writer import Writer
from stages.lib.terminal import UserError


def main() -> None:
    settings = params.load()
    manifest = export(settings.dataset, settings.export)
    for warning in manifest.warnings:
        terminal.report_line(f"warning: {settings.dataset.path}: {warning}")


def export(dataset: Dataset, settings: Export) -> Manifest:
    """The whole export; returns what it wrote as the manifest."""
    shutil.rmtree(tensors.FOLDER, ignore_errors=True)
    data_checks = DataChecks(dataset.path, settings.on_error)
    orientation = OrientationCheck(dataset.lidar.orientation)
    overview = Overview(dataset.lidar.max_range_m)
    with datasets.opened(dataset, data_checks) as reader:
        split_of = splits.assign(reader.groups, dataset.test_fraction, data_checks)
        groups = in_order(reader.groups, split_of)
        classes = sorted({group.label for group in groups})
        writer = Writer(tensors.FOLDER, classes, settings.shard_groups)
        learned = Counter[str]()
        validated = 0
        view = field_of_view(reader, groups, split_of, dataset, settings)
        decoded = decode_groups(reader, groups, dataset, settings, view)
        for group, result in terminal.progress(decoded, "exporting", len(groups), "groups"):
            split = split_of[group.key]
            if not admit(group, split, result, data_checks):
                continue
            writer.add(
                split=split,
                key=group.key,
                scene=group.scene,
                label=group.label,
                rgb=result.rgb,
                xyza=result.xyza,
                facts=result.facts,
            )
            overview.add(split, group.label, result.facts)
            validated += split == "validation"
            if split == "train":
                learned[group.label] += 1
                orientation.add(result.facts.fits)
    data_checks.raise_errors()
    require_something_left(validated, learned, dataset.path)
    for warning in (orientation.warning(), checks.imbalance(learned)):
        if warning:
            data_checks.note(warning)
    manifest = writer.close(
        source=dataset.path,
        orientation=dataset.lidar.orientation,
        orientation_fits=orientation.means(),
        field_of_view_deg=view.degrees() if view is not None else None,
        normalize=settings.normalize,
        warnings=data_checks.warnings(),
    )
    overview.draw(tensors.FOLDER, manifest)
    manifests.save(manifest, tensors.FOLDER)
    return manifest


def in_order(groups: list[Group], split_of: dict[str, str]) -> list[Group]:
    """The groups that go into the cache, split by split: of copies in two splits, the later is left out."""
    kept = [group for group in groups if group.key in split_of]
    return sorted(kept, key=lambda group: splits.ORDER.index(split_of[group.key]))


def require_something_left(num_validation: int, learned: Counter[str], source: str) -> None:
    """Raises UserError when so many groups were skipped that nothing can be trained or selected on."""
    if len(learned) < 2 or not num_validation:
        raise UserError(
            f"{source}: with its faulty groups left out (export.on_error: skip), {sum(learned.values())} "
            f"training groups of {len(learned)} classes and {num_validation} validation groups remain; "
            "two classes and one validation group are needed"
        )


def field_of_view(
    reader: GroupReader, groups: list[Group], split_of: dict[str, str], dataset: Dataset, settings: Export
) -> FieldOfView | None:
    """For point clouds: the configured field of view, or the one that holds the training split's."""
    if dataset.lidar.format != "pcd":
        return None
    configured = dataset.lidar.field_of_view_deg
    if configured is not None:
        azimuth, zenith = np.deg2rad(configured.azimuth), np.deg2rad(configured.zenith)
        return FieldOfView(tuple(azimuth.tolist()), tuple(zenith.tolist()))
    training = [group for group in groups if split_of[group.key] == "train"]
    workers = decoding.num_workers(settings.workers)
    view = decoding.fit_view(jobs(reader, training, dataset, settings), settings.max_pixels, workers)
    if view is None:
        raise UserError(
            f"{dataset.path}: no point in any cloud of the training split (slice '{dataset.lidar.slice}', "
            "dataset.lidar.slice)"
        )
    return view


def decode_groups(
    reader: GroupReader, groups: list[Group], dataset: Dataset, settings: Export, view: FieldOfView | None
) -> Iterator[tuple[Group, Decoded | str]]:
    """Each group with its tensors, or with what is wrong with it."""
    how = Settings(
        format=dataset.lidar.format,
        orientation=dataset.lidar.orientation,
        size=settings.image_size,
        max_pixels=settings.max_pixels,
        max_range_m=dataset.lidar.max_range_m,
        view=view,
    )
    batches = jobs(reader, groups, dataset, settings)
    remaining = iter(groups)
    for results in decoding.decode_all(batches, how, decoding.num_workers(settings.workers)):
        for result in results:
            yield next(remaining), result


def jobs(reader: GroupReader, groups: list[Group], dataset: Dataset, settings: Export) -> Iterator[list[Job]]:
    """Batches of work for the decoding processes; FiftyOne's documents are read a batch at a time."""
    angles = find_angles(reader, groups, dataset, settings)
    for start in range(0, len(groups), decoding.BATCH):
        batch = groups[start : start + decoding.BATCH]
        yield [
            Job(
                picture=group.picture,
                scan=group.scan,
                field=field,
                angles=angles.get((group.scan.parent, group.label)),
                place=f"{dataset.path}: {group.key}",
            )
            for group, field in zip(batch, reader.fields(batch), strict=True)
        ]


def find_angles(
    reader: GroupReader, groups: list[Group], dataset: Dataset, settings: Export
) -> dict[tuple[Path, str], Angles | None]:
    """The angles of range images, by the folder of the scan and its class, each looked up once."""
    if dataset.lidar.format not in ("range", "npy"):
        return {}
    scan_of = {(group.scan.parent, group.label): group.scan for group in groups}
    folder, info = Path(dataset.path), reader.info
    return {
        (parent, label): scans.find_angles(info, folder, scan, label, settings.max_pixels)
        for (parent, label), scan in scan_of.items()
    }


def admit(group: Group, split: str, result: Decoded | str, data_checks: DataChecks) -> TypeGuard[Decoded]:
    """Whether the group goes into the cache; what is wrong or odd about it is noted."""
    if isinstance(result, str):
        data_checks.error("unreadable", result)
        return False
    if not data_checks.admit_channels(len(result.rgb), group.picture):
        return False
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
    return data_checks.admit_content(contents, group=group.key, split=split, label=group.label)


if __name__ == "__main__":
    terminal.run(main)
