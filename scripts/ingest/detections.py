"""Cuts the boxes of a FiftyOne dataset of whole pictures into a FiftyOne dataset of objects.

    python -m scripts.ingest detections FOLDER OUT [--lists FILE ...] [--classes CLASS ...]

FOLDER is a FiftyOneDataset folder of grouped samples. Slices and fields have the names of params.yaml: pictures are
in dataset.rgb.slice, and their dataset.label_field contains fo.Detections; samples of dataset.lidar.slice have an
array 4 x H x W (x, y, z in metres; a = 1 at returns) in dataset.lidar.field, which covers the whole picture as it is.

Each detection becomes a group, as `python -m scripts.ingest kitti` does it; coordinates keep the axes of the array.
Groups with the tag of a split keep it; if none has one, scenes are split by shares. Without dataset.scene_field, each
picture is a scene.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.ingest import objects, output, scenes
from scripts.ingest.cutting import Box, Frame, LabelledObject, PictureReturns, Scan
from scripts.ingest.objects import Tally
from stages.lib import params
from stages.lib.core import console
from stages.lib.core.errors import UserError, shortened
from stages.lib.core.names import SPLITS
from stages.lib.datasets import database, folders, reader, slice_samples
from stages.lib.datasets.slice_samples import SliceSample
from stages.lib.lidar import formats, readers
from stages.lib.params import Dataset

_KEPT = ("distance_m", "occlusion", "truncation")  # attributes of a detection that its group keeps
_LARGEST = 1.01  # side of a box as a share of the picture's, with room for rounding
_TOGETHER = 8  # arrays that are read from the database together; more would only take memory


@dataclass(frozen=True)
class ArrayScan(Scan):
    """An array field that covers a whole picture, as the database holds it."""

    content: object
    place: str  # names the group in messages

    def returns(self, width: int, height: int, max_pixels: int) -> PictureReturns:
        """The returns in a picture of this size in pixels; each lies in the middle of its cell.

        Raises:
            UserError: when there is no array, or it is damaged or of another form.
        """
        if not isinstance(self.content, bytes):
            raise UserError(f"{self.place}: no array in the field that dataset.lidar.field names")
        array = readers.read_array(self.content, max_pixels, self.place, compressed=True)
        raster = formats.from_xyza(array, math.inf, self.place).raster
        _, num_rows, num_columns = raster.shape
        rows, columns = np.nonzero(raster[3])
        xyz_m = raster[:3, rows, columns].T.astype(np.float64)
        # The axes of the array are unknown here; within a cell, the nearest return has the smallest range, too.
        return PictureReturns(
            (columns + 0.5) * width / num_columns,
            (rows + 0.5) * height / num_rows,
            np.linalg.norm(xyz_m, axis=1),
            xyz_m,
        )


@dataclass(frozen=True)
class PictureGroup:
    """A group of the dataset: a picture with its detections and its scan."""

    name: str
    scene: str
    split: str | None  # of its tag
    picture_path: Path
    lidar_id: Any  # FiftyOne's id of the LiDAR slice's sample
    objects: list[LabelledObject]
    place: str


def main(arguments: Sequence[str]) -> None:
    given = parse(arguments)
    output.require_new(given.out)
    settings = params.load()
    folders.require_dataset(given.folder, setting=None)
    tally = Tally()
    with reader.loaded(given.folder) as dataset:
        check_schema(dataset, given.folder, settings.dataset)
        groups = {group.name: group for group in read_groups(dataset, given.folder, settings.dataset, tally)}
        labelled = {name: group.objects for name, group in groups.items()}
        labelled = objects.of_classes(labelled, given.classes, tally)
        split_of = find_splits(
            dataset, {name: groups[name] for name in labelled}, labelled, settings.dataset, given
        )
        tally.objects["of groups without a split"] += sum(
            len(of_group) for name, of_group in labelled.items() if name not in split_of
        )
        chosen = [groups[name] for name in sorted(split_of)]
        frames = make_frames(dataset, chosen, split_of, labelled, settings.dataset)
        paths = [group.picture_path for group in chosen]
        objects.write_objects(frames, paths, given.out, given.folder, settings, tally)
    objects.print_summary(given.out, tally)
    print(f"wrote {given.out}; next: {output.next_command(given.out, settings.dataset)}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command line.

    Raises:
        UserError: when they cannot be used.
    """
    parser = objects.parser(
        "detections",
        "Cuts the boxes of a FiftyOne dataset of whole pictures into a FiftyOne dataset of objects.",
        "FiftyOneDataset folder of grouped samples, with the slices and fields of params.yaml",
    )
    scenes.add_options(parser)
    given = parser.parse_args(arguments)
    scenes.require_options(given)
    return given


def check_schema(dataset: Any, folder: Path, settings: Dataset) -> None:
    """Raises UserError unless the dataset has the slices and fields of params.yaml, with boxes as labels."""
    slices = dataset.group_slices if dataset.media_type == "group" else []
    for key, name in (("rgb.slice", settings.rgb.slice), ("lidar.slice", settings.lidar.slice)):
        if name not in slices:
            listed = ", ".join(slices) or "none, because it is not grouped"
            raise UserError(f"{folder}: no group slice '{name}' (dataset.{key}); its slices are {listed}")
    if settings.lidar.format != "xyza" or settings.lidar.field is None:
        raise UserError(
            "params.yaml: dataset.lidar.format: boxes can be cut only from an xyza array in dataset.lidar.field"
        )
    fields = dataset.get_field_schema()
    for key, name in (("label_field", settings.label_field), ("lidar.field", settings.lidar.field)):
        if name not in fields:
            raise UserError(
                f"{folder}: no field '{name}' (dataset.{key}); its fields are {', '.join(sorted(fields))}"
            )
    label_type = getattr(fields[settings.label_field], "document_type", None)
    if label_type is not database.connect().Detections:
        raise UserError(
            f"{folder}: field '{settings.label_field}' (dataset.label_field) is not an fo.Detections; name a field "
            "that is"
        )


def read_groups(dataset: Any, folder: Path, settings: Dataset, tally: Tally) -> list[PictureGroup]:
    """All groups with a picture and a scan, sorted by name; the others are listed as left out."""
    fields = dataset.get_field_schema()
    label, scene = (
        (fields[name].db_field or name) if name in fields else None
        for name in (settings.label_field, settings.scene_field)
    )
    slices = (settings.rgb.slice, settings.lidar.slice)
    pictures, scans = slice_samples.read(dataset, slices, label, scene, part="detections")
    groups = []
    for group_id in dict.fromkeys([*pictures, *scans]):
        picture, scan = pictures.get(group_id), scans.get(group_id)
        try:
            groups.append(_read_group(picture, scan, folder, settings, tally))
        except UserError as error:
            path = next(sample.filepath for sample in (picture, scan) if sample is not None)
            tally.lines.append(f"{shortened(path, 200)}: {error}")
    require_shares([item for group in groups for item in group.objects], folder, settings)
    return sorted(groups, key=lambda group: group.name)


def _read_group(
    picture: SliceSample | None, scan: SliceSample | None, folder: Path, settings: Dataset, tally: Tally
) -> PictureGroup:
    """A group from its two samples; raises UserError when one is missing, or they contradict each other."""
    if picture is None or scan is None:
        missing = settings.rgb.slice if picture is None else settings.lidar.slice
        raise UserError(f"no sample in slice '{missing}' of its group")
    for sample in (picture, scan):
        if sample.doubled:
            also = shortened(sample.doubled, 200)
            raise UserError(f"several samples in slice '{sample.slice}' of its group, also {also}")
    path = Path(picture.filepath)
    if not (settings.allow_external_media or _is_inside(path, folder)):
        raise UserError(
            "outside the dataset's folder; set dataset.allow_external_media: true if you trust the dataset"
        )
    split_of_tag = {getattr(settings.splits, split): split for split in SPLITS}
    found = {split_of_tag[tag] for tag in map(str, picture.tags + scan.tags) if tag in split_of_tag}
    if len(found) > 1:
        raise UserError(f"in several splits at once: {', '.join(sorted(found))}")
    scene_names = {text for sample in (picture, scan) if (text := slice_samples.as_text(sample.scene))}
    if len(scene_names) > 1:
        some = " and ".join(f"'{shortened(text)}'" for text in sorted(scene_names))
        raise UserError(f"its slices are of scenes {some}")
    name = os.path.splitext(os.path.relpath(path, folder.absolute()))[0]
    detections = picture.label.get("detections") if isinstance(picture.label, dict) else None
    objects_found = [_as_object(item) for item in detections or []]
    tally.objects["without a label or a box"] += objects_found.count(None)
    return PictureGroup(
        name=name,
        scene=scene_names.pop() if scene_names else name,
        split=next(iter(found), None),
        picture_path=path,
        lidar_id=scan.id,
        objects=[item for item in objects_found if item is not None],
        place=f"{folder}: {shortened(name, 200)}",
    )


def require_shares(found: list[LabelledObject], folder: Path, settings: Dataset) -> None:
    """Raises UserError when most boxes are larger than their pictures: then they are in pixels."""
    too_large = [item.box for item in found if max(_sides(item.box)) > _LARGEST]
    if 2 * len(too_large) > len(found):
        width, height = _sides(too_large[0])
        raise UserError(
            f"{folder}: {len(too_large):,} of {len(found):,} boxes in '{settings.label_field}' (dataset.label_field) "
            f"are larger than their pictures, such as {width:g} x {height:g}; FiftyOne's bounding_box is "
            "[left, top, width, height] in shares of the picture (0 to 1), not in pixels"
        )


def _sides(box: Box) -> tuple[float, float]:
    return box.right - box.left, box.bottom - box.top


def _is_inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _as_object(detection: dict[str, Any]) -> LabelledObject | None:
    """The object of a stored detection; None if it has no label or no box."""
    try:
        label = slice_samples.as_text(detection.get("label"))  # ids of classes are numbers
    except UserError:
        return None
    box = detection.get("bounding_box") or []
    if not label or len(box) != 4 or not all(_is_number(value) for value in box):
        return None
    left, top, width, height = map(float, box)
    fields = {name: detection[name] for name in _KEPT if _is_number(detection.get(name))}
    return LabelledObject(label, Box(left, top, left + width, top + height), fields)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def find_splits(
    dataset: Any,
    groups: dict[str, PictureGroup],
    labelled: dict[str, list[LabelledObject]],
    settings: Dataset,
    given: argparse.Namespace,
) -> dict[str, str]:
    """The split of each group: by lists if they are given, otherwise by its tag; by shares if no group has one.

    Raises:
        UserError: when groups have tags of splits, but none that of training or of validation.
    """
    if given.lists is None:
        tagged = {name: group.split for name, group in groups.items() if group.split is not None}
        tags = ", ".join(sorted(map(shortened, dataset.distinct("tags"))))
        for split in ("train", "validation"):
            if tagged and split not in tagged.values():
                raise UserError(
                    f"{given.folder}: no group with objects has the tag '{getattr(settings.splits, split)}' "
                    f"(dataset.splits.{split}); the dataset's tags are {tags}"
                )
        if tagged:
            return tagged
        if tags:
            console.report_line(
                f"warning: {given.folder}: no group has the tag of a split (dataset.splits), so scenes are split by "
                f"shares; the dataset's tags are {tags}"
            )
    labels = {name: {item.label for item in of_group} for name, of_group in labelled.items()}
    return scenes.assign(labels, {name: group.scene for name, group in groups.items()}, given)


def make_frames(
    dataset: Any,
    groups: list[PictureGroup],
    split_of: dict[str, str],
    labelled: dict[str, list[LabelledObject]],
    settings: Dataset,
) -> Iterator[Frame]:
    """The frames of the groups; their arrays are read a few at a time, to save memory."""
    name = settings.lidar.field
    stored_as = dataset.get_field(name).db_field or name
    remaining = iter(enumerate(groups))
    while batch := list(itertools.islice(remaining, _TOGETHER)):
        ids = [group.lidar_id for _, group in batch]
        # Not through FiftyOne, which would decode arrays whatever size their headers declare.
        documents = dataset._sample_collection.find({"_id": {"$in": ids}}, {stored_as: 1})
        arrays = {document["_id"]: document.get(stored_as) for document in documents}
        for number, group in batch:
            yield Frame(
                # The number tells apart pictures of the same name in different folders.
                name=f"{number:06d}-{group.picture_path.stem[:100]}",
                scene=group.scene,
                split=split_of[group.name],
                picture_path=group.picture_path,
                scan=ArrayScan(arrays.get(group.lidar_id), group.place),
                objects=labelled[group.name],
                has_relative_boxes=True,
            )
