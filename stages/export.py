"""Turns the FiftyOne dataset into the tensor cache that training and evaluation read.

    python -m stages.export

Reads dataset.path of params.yaml; writes data/tensors/, the manifest last.
"""

from __future__ import annotations

import shutil

from stages.lib import datasets, decoding, params, splits, tensors, terminal
from stages.lib.datasets import GroupReader
from stages.lib.manifest import Manifest
from stages.lib.params import Dataset, Export
from stages.lib.terminal import UserError


def main() -> None:
    settings = params.load()
    shutil.rmtree(tensors.FOLDER, ignore_errors=True)
    with datasets.opened(settings.dataset) as reader:
        manifest = write_tensors(reader, settings.dataset, settings.export)
    for warning in manifest.warnings:
        terminal.report_line(f"warning: {settings.dataset.path}: {warning}")


def write_tensors(reader: GroupReader, dataset: Dataset, export: Export) -> Manifest:
    """Decodes every group and appends it to the cache, one at a time."""
    groups = reader.groups()
    split_of = splits.assign(groups, dataset.test_fraction)
    classes = sorted({group.label for group in groups})
    writer = tensors.Writer(tensors.FOLDER, classes, export.shard_groups)
    channels: int | None = None
    for group, raster in terminal.progress(reader.rasters(), "exporting", len(groups), "groups"):
        rgb = decoding.read_picture(group.picture, export.image_size)
        channels = channels or rgb.shape[0]
        if rgb.shape[0] != channels:
            raise UserError(
                f"{group.picture}: {rgb.shape[0]} colour channels where the pictures before it have "
                f"{channels}; all must have the same"
            )
        xyza = decoding.read_xyza(
            raster, export.image_size, dataset.lidar.orientation, f"{dataset.path}: {group.key}"
        )
        writer.add(
            split=split_of[group.key],
            key=group.key,
            scene=group.scene,
            label=group.label,
            rgb=rgb,
            xyza=xyza,
        )
    return writer.close(
        source=dataset.path,
        orientation=dataset.lidar.orientation,
        normalize=export.normalize,
        warnings=reader.warnings,
    )


if __name__ == "__main__":
    terminal.run(main)
