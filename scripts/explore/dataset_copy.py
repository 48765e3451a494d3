"""The copy of the user's dataset in the workspace's database, with slices for the rasters and for point clouds.

FiftyOne's objects, such as `fo.Dataset`, are `Any` to the type checker, because FiftyOne has no type hints.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bson import ObjectId
from pymongo import UpdateMany, UpdateOne

from scripts.explore import pictures
from stages.lib.core import console
from stages.lib.core.errors import UserError
from stages.lib.core.names import SPLITS
from stages.lib.datasets import database
from stages.lib.params import Dataset as DatasetParams
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests

_BATCH = 1000  # documents that are written together
RASTER = "raster"
CLOUD = "point_cloud"
THUMBNAIL = "orthographic_projection_metadata"  # the field in which the App looks for a cloud's thumbnail
_CLOUD_TYPES = ("point-cloud", "3d")


@dataclass(frozen=True)
class Copy:
    """The copy, and where the groups of the tensor cache are in it."""

    dataset: Any
    ids: dict[str, ObjectId]  # FiftyOne's id of each group of the cache, by key
    image_slice: str


def make(dataset: Any, settings: DatasetParams, media: Path) -> Copy:
    """Finds the groups of the cache in the imported dataset, and adds slices for their rasters and clouds.

    Args:
        dataset: an `fo.Dataset`, just imported from the user's folder.
        media: the folder that `pictures.write` has written.

    Raises:
        UserError: when groups of the cache are missing in the dataset.
    """
    documents = _image_documents(dataset, settings)
    places = {}
    for split in SPLITS:
        for index, group in enumerate(stored_groups.read(manifests.FOLDER, split)):
            if group.group not in documents:
                raise UserError(
                    f"{settings.path}: has no group '{group.group}', which data/tensors has; run `dvc repro`"
                )
            places[group.group] = pictures.files(media.resolve(), split, index)
    wanted = {key: documents[key] for key in places}
    ids = {key: document[dataset.group_field]["_id"] for key, document in wanted.items()}
    _add_slice(dataset, free_name(RASTER, dataset.group_slices), "image", wanted, _rasters(places))
    clouds = [name for name, kind in dataset.group_media_types.items() if kind in _CLOUD_TYPES]
    if not clouds:
        clouds = [free_name(CLOUD, dataset.group_slices)]
        _add_slice(
            dataset, clouds[0], "point-cloud", wanted, {key: place.cloud for key, place in places.items()}
        )
    _add_thumbnails(dataset, clouds, ids, places)
    return Copy(dataset, ids, settings.rgb.slice)


def free_name(name: str, taken: Any) -> str:
    """The name, or one with a suffix if the user's dataset has it already."""
    return name if name not in taken else f"{name}_of_networks"


def write_values(copy: Copy, keys: list[str], values: Iterator[dict[str, Any]]) -> None:
    """Writes fields to all slices of each group, as documents of the database: FiftyOne takes minutes for that.

    Args:
        keys: of the groups.
        values: of each group, by field.
    """
    group_id = f"{copy.dataset.group_field}._id"
    operations = (
        UpdateMany({group_id: copy.ids[key]}, {"$set": fields})
        for key, fields in zip(keys, values, strict=True)
    )
    _write_in_batches(copy.dataset._sample_collection, operations)
    copy.dataset.reload()


def _image_documents(dataset: Any, settings: DatasetParams) -> dict[str, dict[str, Any]]:
    """The documents of the images, by the group's key, without the arrays that they may hold."""
    folder = f"{os.path.abspath(settings.path)}{os.sep}"
    found = {}
    for document in dataset._sample_collection.find({f"{dataset.group_field}.name": settings.rgb.slice}):
        key = os.path.splitext(document["filepath"].removeprefix(folder))[0]
        found[key] = {name: value for name, value in document.items() if not isinstance(value, bytes)}
    return found


def _rasters(places: dict[str, pictures.GroupFiles]) -> dict[str, Path]:
    return {key: place.raster for key, place in places.items()}


def _add_slice(
    dataset: Any, name: str, media_type: str, images: dict[str, dict[str, Any]], paths: dict[str, Path]
) -> None:
    """Adds a slice whose samples have the fields of the group's image."""
    dataset.add_group_slice(name, media_type)
    group = dataset.group_field
    samples = [
        document
        | {
            "_id": ObjectId(),
            "filepath": str(paths[key]),
            "_media_type": media_type,
            "metadata": None,
            group: document[group] | {"name": name},
        }
        for key, document in images.items()
    ]
    for start in range(0, len(samples), _BATCH):
        dataset._sample_collection.insert_many(samples[start : start + _BATCH])
    dataset.reload()


def _add_thumbnails(
    dataset: Any, slices: list[str], ids: dict[str, ObjectId], places: dict[str, pictures.GroupFiles]
) -> None:
    """Gives the App a picture for each point cloud: without one, the grid is empty."""
    fo = database.connect()
    fou3d = importlib.import_module("fiftyone.utils.utils3d")  # FiftyOne itself does not import it

    if THUMBNAIL not in dataset.get_field_schema():
        dataset.add_sample_field(
            THUMBNAIL, fo.EmbeddedDocumentField, embedded_doc_type=fou3d.OrthographicProjectionMetadata
        )
    group = dataset.group_field
    _write_in_batches(
        dataset._sample_collection,
        (
            UpdateOne(
                {f"{group}._id": ids[key], f"{group}.name": name},
                {
                    "$set": {
                        THUMBNAIL: {
                            "_cls": "OrthographicProjectionMetadata",
                            "filepath": str(place.thumbnail),
                            "width": pictures.SIDE,
                            "height": pictures.SIDE,
                        }
                    }
                },
            )
            for name in slices
            for key, place in places.items()
        ),
    )
    dataset.reload()


def _write_in_batches(collection: Any, operations: Iterator[Any]) -> None:
    batch = []
    for operation in console.track(operations, "fields of the App", unit="group"):
        batch.append(operation)
        if len(batch) == _BATCH:
            collection.bulk_write(batch, ordered=False)
            batch = []
    if batch:
        collection.bulk_write(batch, ordered=False)
