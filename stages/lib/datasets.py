"""FiftyOne datasets, read and written; the only door to fiftyone."""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib import database
from stages.lib.params import Dataset as DatasetParams
from stages.lib.terminal import UserError

database.keep_in_workspace()

import fiftyone as fo  # noqa: E402  (reads its settings, made just above, while it is imported)

fo.config.show_progress_bars = False
logging.getLogger("fiftyone").setLevel(logging.ERROR)

_BATCH = 256  # groups whose arrays are read from the database at once


@dataclass(frozen=True)
class Group:
    """One group of a dataset that carries a split's tag."""

    key: str  # the picture's path inside the dataset folder, without suffix
    scene: str
    label: str
    split: str  # of its tag: "train", "validation" or "test"
    picture: Path
    lidar_id: str  # FiftyOne's id of the sample with the raster


class GroupReader:
    """The labelled groups of a loaded dataset, sorted by key."""

    def __init__(self, dataset: fo.Dataset, settings: DatasetParams) -> None:
        """Reads everything but pictures and arrays.

        Raises:
            UserError: when a slice, a field or a split is missing, or a group is incomplete.
        """
        self._dataset = dataset
        self._settings = settings
        self._folder = Path(settings.path)
        self.warnings: list[str] = []
        self._check_schema()
        self._groups = self._read_groups()

    def groups(self) -> list[Group]:
        return self._groups

    def rasters(self) -> Iterator[tuple[Group, object]]:
        """Each group with its LiDAR array as stored; arrays are read a batch at a time."""
        settings = self._settings
        view = self._dataset.select_group_slices(settings.lidar.slice)
        for start in range(0, len(self._groups), _BATCH):
            groups = self._groups[start : start + _BATCH]
            samples = view.select([group.lidar_id for group in groups], ordered=True)
            yield from zip(groups, samples.values(settings.lidar.field), strict=True)

    def _check_schema(self) -> None:
        settings, dataset = self._settings, self._dataset
        if dataset.media_type != "group":
            raise UserError(
                f"{settings.path}: media type is '{dataset.media_type}'; a grouped dataset with an RGB "
                "and a LiDAR slice is needed"
            )
        slices = dataset.group_slices
        for key, name in (("rgb", settings.rgb.slice), ("lidar", settings.lidar.slice)):
            if name not in slices:
                raise UserError(
                    f"{settings.path}: no group slice '{name}' (dataset.{key}.slice); "
                    f"its slices are {', '.join(slices)}"
                )
        fields = dataset.get_field_schema()
        listed = ", ".join(sorted(fields))
        for key, name in (("label_field", settings.label_field), ("lidar.field", settings.lidar.field)):
            if name not in fields:
                raise UserError(
                    f"{settings.path}: no field '{name}' (dataset.{key}); its fields are {listed}"
                )
        label_type = getattr(fields[settings.label_field], "document_type", None)
        if label_type is not fo.Classification:
            raise UserError(
                f"{settings.path}: field '{settings.label_field}' (dataset.label_field) is no "
                "fo.Classification"
            )
        if settings.scene_field is not None and settings.scene_field not in fields:
            self.warnings.append(
                f"no field '{settings.scene_field}' (dataset.scene_field): every group counts as a "
                "scene of its own, so related groups may stand on both sides of a split"
            )

    def _read_groups(self) -> list[Group]:
        settings = self._settings
        pictures = self._slice_values(settings.rgb.slice)
        rasters = self._slice_values(settings.lidar.slice)
        split_of_tag = {
            settings.splits.train: "train",
            settings.splits.validation: "validation",
            settings.splits.test: "test",
        }
        groups = []
        untagged: set[str] = set()
        num_untagged = 0
        for group_id, picture in pictures.items():
            place = f"{settings.path}: group of {picture['filepath']}"
            raster = rasters.get(group_id)
            tags = set(picture["tags"]) | set(raster["tags"] if raster else [])
            splits = sorted({split_of_tag[tag] for tag in tags & split_of_tag.keys()})
            if not splits:
                untagged.update(tags or {"no tag"})
                num_untagged += 1
                continue
            if len(splits) > 1:
                raise UserError(f"{place}: in several splits at once: {', '.join(splits)}")
            if raster is None:
                raise UserError(f"{place}: no sample in slice '{settings.lidar.slice}' (dataset.lidar.slice)")
            label = picture["label"] or raster["label"]
            if picture["label"] and raster["label"] and picture["label"] != raster["label"]:
                raise UserError(
                    f"{place}: its slices are labelled '{picture['label']}' and '{raster['label']}'"
                )
            if label is None:
                raise UserError(f"{place}: no label in '{settings.label_field}' (dataset.label_field)")
            path = Path(picture["filepath"])
            key = _relative(path, self._folder).with_suffix("").as_posix()
            scene = picture["scene"] if picture["scene"] is not None else raster["scene"]
            groups.append(
                Group(
                    key=key,
                    scene=str(scene) if scene is not None else key,
                    label=label,
                    split=splits[0],
                    picture=path,
                    lidar_id=raster["id"],
                )
            )
        self._require_splits(groups)
        if num_untagged:
            self._tell_untagged(groups, num_untagged, sorted(untagged))
        self._require_distinct_keys(groups)
        # FiftyOne's own order is that of its database; the key's order is the same everywhere.
        return sorted(groups, key=lambda group: group.key)

    def _slice_values(self, name: str) -> dict[str, dict[str, Any]]:
        """Light values of each sample of a slice, by group id."""
        settings = self._settings
        paths = {
            "id": "id",
            "group": f"{self._dataset.group_field}.id",
            "filepath": "filepath",
            "tags": "tags",
            "label": f"{settings.label_field}.label",
        }
        if settings.scene_field in self._dataset.get_field_schema():
            paths["scene"] = settings.scene_field
        view = self._dataset.select_group_slices(name)
        columns = dict(zip(paths, view.values(list(paths.values())), strict=True))
        columns.setdefault("scene", [None] * len(columns["id"]))
        return {
            group: {key: column[i] for key, column in columns.items()}
            for i, group in enumerate(columns["group"])
        }

    def _tell_untagged(self, groups: list[Group], count: int, tags: list[str]) -> None:
        """Groups without a split's tag are left out; if that is all that might be a test split, stop."""
        settings = self._settings
        left_out = f"{count:,} groups carry no split's tag (dataset.splits); their tags are {', '.join(tags)}"
        if not any(group.split == "test" for group in groups):
            raise UserError(
                f"{settings.path}: no group carries the tag '{settings.splits.test}' "
                f"(dataset.splits.test), but {left_out}"
            )
        self.warnings.append(f"{left_out}; they were left out")

    def _require_distinct_keys(self, groups: list[Group]) -> None:
        twice = [key for key, count in Counter(group.key for group in groups).items() if count > 1]
        if twice:
            raise UserError(f"{self._settings.path}: the picture {twice[0]} belongs to several groups")

    def _require_splits(self, groups: list[Group]) -> None:
        settings = self._settings
        found = {group.split for group in groups}
        for split in ("train", "validation"):
            if split not in found:
                tags = ", ".join(sorted(self._dataset.distinct("tags"))) or "none"
                raise UserError(
                    f"{settings.path}: the {split} split is empty: no group carries the tag "
                    f"'{getattr(settings.splits, split)}' (dataset.splits.{split}); its tags are {tags}"
                )
        classes = sorted({group.label for group in groups if group.split == "train"})
        if len(classes) < 2:
            raise UserError(
                f"{settings.path}: the training split holds one class only ('{classes[0]}' in field "
                f"'{settings.label_field}', dataset.label_field); at least two are needed"
            )


@contextmanager
def opened(settings: DatasetParams) -> Iterator[GroupReader]:
    """Loads a FiftyOneDataset folder into a temporary database entry, and removes it at the end.

    Raises:
        UserError: when the folder is missing, is no FiftyOneDataset or does not fit the settings.
    """
    folder = Path(settings.path)
    require_dataset_folder(folder)
    try:
        dataset = fo.Dataset.from_dir(dataset_dir=str(folder), dataset_type=fo.types.FiftyOneDataset)
    except Exception as error:  # FiftyOne raises whatever its parsers raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder}: FiftyOne cannot load this folder: {reason}") from None
    try:
        yield GroupReader(dataset, settings)
    finally:
        dataset.delete()


def require_dataset_folder(folder: Path) -> None:
    """Raises UserError unless the folder has the files of a FiftyOneDataset."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder (dataset.path)")
    missing = [name for name in ("metadata.json", "samples.json") if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder}: no FiftyOneDataset (dataset.path): {' and '.join(missing)} missing; "
            "write one with dataset.export(export_dir=..., dataset_type=fo.types.FiftyOneDataset)"
        )


def _relative(path: Path, folder: Path) -> Path:
    """The path inside the folder; a path outside it stays as it is."""
    try:
        return path.relative_to(os.path.abspath(folder))
    except ValueError:
        return path


@dataclass(frozen=True)
class NewGroup:
    """One group to write; all paths lie below the dataset's folder."""

    scene: str
    label: str
    split: str
    files: dict[str, Path]  # media file of each slice
    xyza: np.ndarray  # 4 x H x W, stored with slice `lidar_img`


def write(folder: Path, name: str, groups: Iterable[NewGroup], seed: int) -> None:
    """Writes a FiftyOneDataset with slices `rgb`, `lidar_img` and `lidar_pcd` around existing media.

    The same groups and seed give the same bytes: ids, time stamps and random keys, which FiftyOne
    draws anew each time, are replaced by ones drawn from the seed.
    """
    dataset = fo.Dataset()
    try:
        dataset.add_group_field("group", default="rgb")
        dataset.add_samples(itertools.chain.from_iterable(map(_samples, groups)))
        dataset.export(
            export_dir=str(folder),
            dataset_type=fo.types.FiftyOneDataset,
            export_media=False,
            rel_dir=str(folder.resolve()),
        )
    finally:
        dataset.delete()
    _make_reproducible(folder, name, seed)


def _samples(group: NewGroup) -> Iterator[fo.Sample]:
    membership = fo.Group()
    for slice_name, path in group.files.items():
        sample = fo.Sample(
            filepath=str(path.resolve()),
            tags=[group.split],
            group=membership.element(slice_name),
            ground_truth=fo.Classification(label=group.label),
            scene=group.scene,
        )
        if slice_name == "lidar_img":
            sample["xyza"] = group.xyza
        yield sample


def _make_reproducible(folder: Path, name: str, seed: int) -> None:
    """Rewrites what FiftyOne drew at random or took from the clock, in both files alike."""
    rng = random.Random(seed)
    new_ids: dict[str, str] = {}

    def rewritten(value: Any) -> Any:
        if isinstance(value, list):
            return [rewritten(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"$oid"}:
            old = value["$oid"]
            new_ids.setdefault(old, f"{rng.getrandbits(96):024x}")
            return {"$oid": new_ids[old]}
        if value.keys() == {"$date"}:
            return {"$date": "2025-01-01T00:00:00Z"}
        return {
            key: rng.random() if key == "_rand" and isinstance(item, float) else rewritten(item)
            for key, item in value.items()
        }

    for file in ("metadata.json", "samples.json"):
        path = folder / file
        content = rewritten(json.loads(path.read_text()))
        if file == "metadata.json":
            content |= {"name": name, "slug": re.sub(r"[^a-z0-9]+", "-", name.lower())}
            # FiftyOne keeps its fields in a set, whose order changes from process to process.
            content["sample_fields"].sort(key=lambda field: field["name"])
            content["sample_collection_name"] = f"samples.{content['_id']['$oid']}"
        path.write_text(json.dumps(content))
