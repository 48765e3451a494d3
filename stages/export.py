"""Turns the FiftyOne dataset into the tensor cache that training and evaluation read.

    python -m stages.export

Reads dataset.path of params.yaml; writes data/tensors/, the manifest last. What is wrong with the data
ends the export, all faults at once, or is written into the manifest.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

from stages.lib import params
from stages.lib.core import console
from stages.lib.datasets import database, splits, validation
from stages.lib.datasets.reader import DatasetGroup, GroupReader, opened
from stages.lib.datasets.validation import DataChecks
from stages.lib.export import decode, plan
from stages.lib.export.cache_writer import Writer
from stages.lib.export.decode import Pool, Settings, Written
from stages.lib.export.orientation import OrientationCheck
from stages.lib.export.overview import Overview
from stages.lib.params import Dataset, Export
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    settings = params.load()
    manifest = export(settings.dataset, settings.export)
    for warning in manifest.warnings:
        console.report_line(f"warning: {settings.dataset.path}: {warning}")


def export(dataset: Dataset, settings: Export) -> Manifest:
    """The whole export; returns what it wrote as the manifest."""
    database.require_answer()  # before anything is deleted
    shutil.rmtree(manifests.FOLDER, ignore_errors=True)
    manifests.FOLDER.mkdir(parents=True)
    try:
        return write_cache(dataset, settings)
    except BaseException:
        # Half a cache is of no use, and it would stand in the way of `dvc checkout`.
        shutil.rmtree(manifests.FOLDER, ignore_errors=True)
        raise


def write_cache(dataset: Dataset, settings: Export) -> Manifest:
    data_checks = DataChecks(dataset.path, settings.on_error)
    orientation = OrientationCheck(dataset.lidar.orientation)
    overview = Overview(dataset.lidar.max_range_m)
    with decode.started(settings.workers) as pool, opened(dataset, data_checks) as reader:
        groups = plan.in_order(splits.assign(reader.groups, dataset.test_fraction, data_checks))
        writer = Writer(manifests.FOLDER, sorted({group.label for group in groups}))
        how = plan.decoding_settings(groups, dataset, settings, pool)
        written = write_groups(reader, groups, how, dataset, settings, pool)
        for group, result in console.track(written, "exporting", len(groups), "group"):
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
    plan.require_something_left(writer.counts(), dataset.path)
    for warning in (orientation.warning(), validation.imbalance(writer.counts()["train"])):
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
    overview.draw(manifests.FOLDER, manifest)
    manifests.save(manifest, manifests.FOLDER)
    return manifest


def write_groups(
    reader: GroupReader,
    groups: list[DatasetGroup],
    how: Settings,
    dataset: Dataset,
    settings: Export,
    pool: Pool,
) -> Iterator[tuple[DatasetGroup, Written | str]]:
    """Writes the shards; gives each group with its place there, or with what is wrong with it."""
    shards = plan.plan_shards(groups, settings.shard_groups)
    work = plan.make_jobs(reader, shards, dataset, settings.max_pixels)
    results = decode.write_shards(work, how, pool)
    for (_, members), outcomes in zip(shards, results, strict=True):
        yield from zip(members, outcomes, strict=True)


def admit(group: DatasetGroup, result: Written, data_checks: DataChecks) -> bool:
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
    console.run(main)
