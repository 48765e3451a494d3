"""Builds the App's dataset: a copy of the user's dataset with the results of all models."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError

from scripts.explore import dataset_copy, embeddings, fields, fingerprint, pictures, results, views
from scripts.explore.dataset_copy import Copy
from scripts.explore.results import Results
from stages.lib.core import console
from stages.lib.core.errors import UserError, first_line
from stages.lib.datasets import database, folders, reader
from stages.lib.models import records
from stages.lib.params import Params
from stages.lib.tensors.manifest import Manifest

RUN = "comparison"


def build(name: str, settings: Params, manifest: Manifest, current: str, media: Path) -> Any:
    """Builds the dataset under this name; one of the same name is replaced once the new one is complete.

    Args:
        current: the fingerprint of the inputs; written last.
        media: a folder for pictures and clouds.

    Raises:
        UserError: when results or data are missing, or do not belong together.
    """
    found = results.read(settings, manifest)
    folder = Path(settings.dataset.path)
    folders.require_dataset(folder)
    pictures.write(media, manifest, len(os.sched_getaffinity(0)))
    unfinished = f"{name} (unfinished)"
    remove(unfinished)
    try:
        dataset = reader.imported(folder, unfinished)
        fill(dataset, settings, manifest, found, media)
        remove(name)
        dataset.info = dataset.info | {fingerprint.KEY: current}
        dataset.persistent = True
        dataset.name = name
        dataset.save()
        _write_to_disk(dataset)
        return dataset
    except BaseException as error:
        with suppress(Exception):  # the server may have ended; then the next start removes it
            remove(unfinished)
        if isinstance(error, PyMongoError):  # such as of a full disk
            raise UserError(f"the database failed: {first_line(error)}; is the disk full?") from None
        raise


def _write_to_disk(dataset: Any) -> None:
    """Makes the server write all it has: after a kill, it would count no samples, and the App would show none."""
    with suppress(PyMongoError):  # a server of the user's may forbid it
        dataset._sample_collection.database.client.admin.command("fsync")


def remove(name: str) -> None:
    """Removes a dataset from the database if it is there."""
    fo = database.connect()
    if fo.dataset_exists(name):
        fo.delete_dataset(name)


def fill(dataset: Any, settings: Params, manifest: Manifest, found: Results, media: Path) -> None:
    """Adds slices, fields, views, evaluations, embeddings and the sidebar's groups to the imported dataset."""
    given = fields.names(found, settings.dataset, dataset)
    copied = dataset_copy.make(dataset, settings.dataset, media)
    fields.write(copied, found, given)
    views.save_views(copied, found, given, settings.fusion)
    with console.timed("evaluation runs"):
        views.evaluate(copied, found, given, "test" if manifest.has_test_split else "validation")
    _add_embeddings(copied, settings, manifest, found)
    views.color_by_class(copied, found, given)
    views.arrange_sidebar(copied, found, given, settings.fusion)
    _register_run(dataset, settings, manifest)


def _add_embeddings(copied: Copy, settings: Params, manifest: Manifest, found: Results) -> None:
    """Adds the embeddings panel, where the chosen fusion's weights are here."""
    splits = [split for split in manifest.splits() if split != "train"]
    chosen = embeddings.chosen_groups(len(found.groups))
    try:
        vectors = embeddings.features(settings, manifest, splits, chosen)
    except UserError as error:
        console.report_line(f"no embeddings panel: {error}")
        return
    with console.timed("map of the features"):
        embeddings.add_panel(copied, [found.groups[i].group for i in chosen], vectors, settings.fusion)


def _register_run(dataset: Any, settings: Params, manifest: Manifest) -> None:
    """Registers what the results come from, as a run of the dataset."""
    config = dataset.init_run(
        method="fusion comparison",
        data_digest=manifest.digest,
        revision=records.read_timing(f"train-{settings.fusion}")["revision"],
        seeds=settings.seeds,
        models=settings.model_names(),
        fusion=settings.fusion,
    )
    dataset.register_run(RUN, config)
