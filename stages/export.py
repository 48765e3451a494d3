"""Converts the FiftyOne dataset into the tensor cache, which training and evaluation read.

    python -m stages.export

Reads the dataset at dataset.path of params.yaml; writes data/tensors/, the manifest last. Errors in the data end
the export, which shows all of them together; warnings are written into the manifest.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

from stages.lib import params
from stages.lib.core import console, errors
from stages.lib.datasets import database, splits, validation
from stages.lib.datasets.reader import DatasetGroup, GroupReader, opened
from stages.lib.datasets.validation import DataChecks
from stages.lib.export import decode, garbage, near_copies, plan
from stages.lib.export.cache_writer import Writer
from stages.lib.export.decode import Pool, Settings, Unreadable, Written
from stages.lib.export.orientation import OrientationCheck
from stages.lib.export.overview import Overview
from stages.lib.lidar import returns
from stages.lib.params import Dataset, Export
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    settings = params.load()
    manifest = export(settings.dataset, settings.export)
    for warning in manifest.warnings:
        console.report_line(errors.printable(f"warning: {settings.dataset.path}: {warning}"))


def export(dataset: Dataset, settings: Export) -> Manifest:
    """Writes the whole cache; returns its manifest."""
    database.require_answer()  # before anything is deleted
    shutil.rmtree(manifests.FOLDER, ignore_errors=True)
    manifests.FOLDER.mkdir(parents=True)
    try:
        with garbage.few_collections():
            return write_cache(dataset, settings)
    except BaseException:
        # An incomplete cache is of no use, and `dvc checkout` would refuse to overwrite it.
        shutil.rmtree(manifests.FOLDER, ignore_errors=True)
        raise


def write_cache(dataset: Dataset, settings: Export) -> Manifest:
    data_checks = DataChecks(dataset.path, settings.on_error)
    orientation = OrientationCheck(dataset.lidar.orientation)
    overview = Overview(dataset.lidar.max_range_m)
    search = near_copies.Search()
    with decode.started(settings.workers) as pool, opened(dataset, data_checks) as reader:
        groups = plan.in_order(splits.assign(reader.groups, dataset.test_fraction, data_checks))
        writer = Writer(manifests.FOLDER, sorted({group.label for group in groups}))
        decoding = plan.decoding_settings(reader, groups, dataset, settings, pool, data_checks)
        condition_slices = reader.condition_slices
        written = write_groups(reader, groups, decoding, dataset, settings, pool)
        for group, result in console.track(written, "exporting", len(groups), "group"):
            if isinstance(result, Unreadable):
                data_checks.error("unreadable", result.place, result.reason)
            elif admit(group, result, data_checks):
                writer.add(group, result)
                overview.add(group.split, group.label, result.stats)
                search.add(group.split, group.key, result.stats)
                if group.split == "train":
                    orientation.add(result.stats.alignment)
            else:
                writer.reject(result)
    data_checks.raise_errors()
    plan.require_something_left(writer.counts(), dataset.path)
    plan.require_returns(writer.losses["train"], dataset.path)
    with console.timed("looking for near copies"):
        near = search.find()
    for warning in (
        *validation.small_sets(sum(writer.counts()["train"].values()), writer.num_scenes()["test"]),
        orientation.warning(),
        validation.imbalance(writer.counts()["train"]),
        validation.similar_names(writer.classes),
        *returns.warnings(writer.losses),
        near.warning(),
    ):
        if warning:
            data_checks.note(warning)
    manifest = writer.close(
        source=dataset.path,
        channels=decoding.channels,
        image_size=decoding.size,
        orientation=dataset.lidar.orientation,
        orientation_fits=orientation.means(),
        field_of_view_deg=decoding.scan.view.degrees() if decoding.scan.view is not None else None,
        normalize=settings.normalize,
        condition_fields=dataset.condition_fields,
        condition_slices=condition_slices,
        warnings=data_checks.warnings(),
        near_copies=near,
    )
    overview.draw(manifests.FOLDER, manifest)
    manifests.save(manifest, manifests.FOLDER)
    return manifest


def write_groups(
    reader: GroupReader,
    groups: list[DatasetGroup],
    decoding: Settings,
    dataset: Dataset,
    settings: Export,
    pool: Pool,
) -> Iterator[tuple[DatasetGroup, Written | Unreadable]]:
    """Writes the shards; yields each group with its place in them, or with the reason why it has none."""
    shards = plan.plan_shards(groups, settings.shard_groups)
    work = plan.make_jobs(reader, shards, dataset, settings.max_pixels)
    results = decode.write_shards(work, decoding, pool)
    for (_, members), of_shard in zip(shards, results, strict=True):
        yield from zip(members, of_shard, strict=True)


def admit(group: DatasetGroup, result: Written, data_checks: DataChecks) -> bool:
    """Whether the group stays in the cache; notes its errors and warnings."""
    stats = result.stats
    contents = {}
    if stats.is_constant:
        data_checks.warn("constant", group.key)
    else:
        contents["image"] = stats.image_digest
    if stats.returns:
        contents["scan"] = stats.raster_digest
    else:
        data_checks.warn("empty", group.key)
    if result.facts.num_far:
        data_checks.warn("out_of_range", group.key)
    if result.facts.num_at_origin:
        data_checks.warn("at_origin", group.key)
    return data_checks.admit_content(contents, group=group.key, split=group.split, label=group.label)


if __name__ == "__main__":
    console.run(main)
