"""Reads FiftyOne datasets: opens a FiftyOneDataset folder and lists its labelled groups.

FiftyOne is imported on first use, because the import starts its database. Its objects, such as `fo.Dataset`, are
`Any` to the type checker, because FiftyOne has no type hints.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bson import ObjectId

from stages.lib.core import console
from stages.lib.core.errors import UserError, first_line, require_short, shortened
from stages.lib.core.names import SPLITS
from stages.lib.datasets import database, folders, slice_samples
from stages.lib.datasets.condition_values import ConditionValues, Value
from stages.lib.datasets.slice_samples import SliceSample
from stages.lib.datasets.validation import DataChecks
from stages.lib.params import Dataset as DatasetParams


@dataclass(frozen=True)
class DatasetGroup:
    """One group of a dataset that has the tag of a split."""

    key: str  # the image's path in the dataset's folder, without suffix
    scene: str
    label: str
    split: str  # of its tag: "train", "validation" or "test"
    # Paths as text: to make a Path of each would take half as long as to read the documents.
    image_path: str
    scan_path: str  # media file of the LiDAR slice
    lidar_id: ObjectId  # FiftyOne's id of the LiDAR slice's sample
    conditions: dict[str, Value] = field(default_factory=dict)  # by field


class GroupReader:
    """The labelled groups of a loaded dataset, sorted by key."""

    def __init__(self, dataset: Any, settings: DatasetParams, checks: DataChecks) -> None:
        """Reads everything except images and scans.

        Args:
            checks: receives the errors of single groups; these groups are left out.

        Raises:
            UserError: when a slice, a field or a split is missing.
        """
        self._dataset = dataset
        self._settings = settings
        self._checks = checks
        self._split_of_tag = {getattr(settings.splits, split): split for split in SPLITS}
        self._folder = Path(os.path.abspath(settings.path))
        self._real_folder = Path(os.path.realpath(settings.path))
        self._is_inside: dict[
            str, bool
        ] = {}  # by folder; to resolve the path of each file would take ten times as long
        self._without_scene = 0  # groups
        self._num_external = 0  # media files
        self._check_schema()
        self._conditions = ConditionValues(dataset, settings)
        self.groups = self._read_groups()

    @property
    def info(self) -> dict[str, Any]:
        """Values that the dataset's author stored about the dataset as a whole."""
        return self._dataset.info

    @property
    def condition_slices(self) -> dict[str, list[str]]:
        """For each condition field with a value in any group, the slices whose samples hold it."""
        return self._conditions.slices()

    def fields(self, groups: list[DatasetGroup]) -> list[object]:
        """The LiDAR field of these groups as stored: bytes of a compressed array, if it is an array."""
        name = self._settings.lidar.field
        if name is None:
            return [None] * len(groups)
        stored_as = self._stored_as(name)
        ids = [group.lidar_id for group in groups]
        # Not through FiftyOne, which would decode the arrays whatever size their headers declare.
        documents = self._dataset._sample_collection.find({"_id": {"$in": ids}}, {stored_as: 1})
        values = {document["_id"]: document.get(stored_as) for document in documents}
        return [values.get(id_) for id_ in ids]

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
        needed = {"label_field": settings.label_field, "lidar.field": settings.lidar.field}
        for key, wanted in needed.items():
            if wanted is not None and wanted not in fields:
                raise UserError(
                    f"{settings.path}: no field '{wanted}' (dataset.{key}); its fields are {listed}"
                )
        label_type = getattr(fields[settings.label_field], "document_type", None)
        if label_type is not database.connect().Classification:
            raise UserError(
                f"{settings.path}: field '{settings.label_field}' (dataset.label_field) is not an "
                "fo.Classification; name a field that is"
            )
        if settings.scene_field is not None and settings.scene_field not in fields:
            self._checks.note(
                f"no field '{settings.scene_field}' (dataset.scene_field): every group counts as a "
                "scene of its own, so groups of one real scene may be in different splits"
            )

    def _read_groups(self) -> list[DatasetGroup]:
        settings = self._settings
        images, scans = self._read_samples()
        groups: dict[str, DatasetGroup] = {}
        untagged: set[str] = set()
        num_untagged = 0
        for group_id in dict.fromkeys([*images, *scans]):
            samples = [part[group_id] for part in (images, scans) if group_id in part]
            tags = {str(tag) for sample in samples for tag in sample.tags}
            if tags.isdisjoint(self._split_of_tag):
                num_untagged += 1
                untagged |= tags or {"no tag"}
                continue
            group = self._read_group(images.get(group_id), scans.get(group_id), tags)
            if group is None:
                continue
            if group.key in groups:
                place = f"{settings.path}: {group.key}"
                self._checks.error("image of several groups", place, "its image belongs to several groups")
            else:
                groups[group.key] = group
        if not {"train", "validation"} <= {group.split for group in groups.values()}:
            # If all groups of a split have errors, these explain more than "the split is empty".
            self._checks.raise_errors()
        self._require_splits(list(groups.values()))
        self._report_doubts(len(groups))
        if num_untagged:
            self._report_untagged(list(groups.values()), num_untagged, sorted(untagged))
        self._conditions.report_doubts(self._checks, (settings.rgb.slice, settings.lidar.slice))
        # FiftyOne's order depends on its database; the order of the keys is always the same.
        return [groups[key] for key in sorted(groups)]

    def _read_samples(self) -> tuple[dict[ObjectId, SliceSample], dict[ObjectId, SliceSample]]:
        """The samples of the image slice and of the LiDAR slice, by group."""
        settings = self._settings
        return slice_samples.read(
            self._dataset,
            (settings.rgb.slice, settings.lidar.slice),
            self._stored_as(settings.label_field),
            self._stored_as(settings.scene_field),
            list(self._conditions.stored_as.values()),
        )

    def _report_doubts(self, num_groups: int) -> None:
        """Warns of what every single group may have, but what as a whole may be a mistake."""
        settings, note = self._settings, self._checks.note
        if self._without_scene and self._stored_as(settings.scene_field):
            note(
                f"{self._without_scene:,} of {num_groups:,} groups have no value in '{settings.scene_field}' "
                "(dataset.scene_field); each counts as a scene of its own"
            )
        if self._num_external:
            note(
                f"{self._num_external:,} media files lie outside the dataset's folder, where DVC does not see a "
                "change: run dvc repro --force export after one"
            )

    def _report_untagged(self, groups: list[DatasetGroup], count: int, tags: list[str]) -> None:
        """Warns of groups without the tag of a split; raises UserError if there is no test split without them."""
        settings = self._settings
        names = ", ".join(shortened(tag) for tag in tags[:20])
        left_out = f"{count:,} groups have no tag of a split (dataset.splits); their tags are {names}"
        if not any(group.split == "test" for group in groups):
            raise UserError(
                f"{settings.path}: no group has the tag '{settings.splits.test}' "
                f"(dataset.splits.test), but {left_out}"
            )
        self._checks.note(f"{left_out}; they were left out")

    def _read_group(
        self, image: SliceSample | None, scan: SliceSample | None, tags: set[str]
    ) -> DatasetGroup | None:
        """A group from its two samples and their tags; None when it has an error."""
        settings, checks = self._settings, self._checks
        samples = [sample for sample in (image, scan) if sample is not None]

        def fault(kind: str, text: str) -> None:
            place = f"{settings.path}: group of {shortened(samples[0].filepath, 200)}"
            checks.error(kind, place, text)

        splits = sorted(self._split_of_tag[tag] for tag in tags & self._split_of_tag.keys())
        if len(splits) > 1:
            fault("several splits", f"in several splits at once: {', '.join(splits)}")
            return None
        if image is None or scan is None:
            key, name = ("rgb", settings.rgb.slice) if image is None else ("lidar", settings.lidar.slice)
            fault("missing slice", f"no sample in slice '{name}' (dataset.{key}.slice)")
            return None
        if doubled := next((sample for sample in samples if sample.doubled), None):
            also = shortened(doubled.doubled, 200)
            fault("several samples of a slice", f"several samples in slice '{doubled.slice}', also {also}")
            return None
        try:
            labels = {text for sample in samples if (text := slice_samples.as_text(sample.label))}
            scenes = {text for sample in samples if (text := slice_samples.as_text(sample.scene))}
        except UserError as error:
            fault("unusable field", str(error))
            return None
        if not labels:
            fault("missing label", f"no label in '{settings.label_field}' (dataset.label_field)")
            return None
        if len(labels) > 1:
            some = " and ".join(f"'{shortened(label)}'" for label in sorted(labels))
            fault("contradicting labels", f"its slices are labelled {some}")
            return None
        if len(scenes) > 1:
            some = " and ".join(f"'{shortened(scene)}'" for scene in sorted(scenes))
            fault("contradicting scenes", f"its slices are of scenes {some} (dataset.scene_field)")
            return None
        try:
            paths = (self._inside(image.filepath), self._inside(scan.filepath))
            key = os.path.splitext(samples[0].filepath.removeprefix(f"{self._folder}{os.sep}"))[0]
            self._without_scene += not scenes
            scene = scenes.pop() if scenes else key
            require_short([*labels, scene, key], f"{settings.path}: group of {key[:80]}: text")
        except UserError as error:
            checks.error("refused", "", str(error))
            return None
        conditions = self._conditions.of_group(key, image, scan)
        return DatasetGroup(key, scene, labels.pop(), splits[0], *paths, scan.id, conditions)

    def _inside(self, path: str) -> str:
        """The path; raises UserError when it leads out of the dataset's folder, as in a hostile dataset."""
        folder = os.path.dirname(path)
        if folder not in self._is_inside:
            self._is_inside[folder] = Path(os.path.realpath(folder)).is_relative_to(self._real_folder)
        inside = self._is_inside[folder]
        if os.path.islink(path):
            inside = Path(os.path.realpath(path)).is_relative_to(self._real_folder)
        self._num_external += not inside
        if not (inside or self._settings.allow_external_media):
            raise UserError(
                f"{self._settings.path}: media file {shortened(path, 200)} lies outside the dataset's folder; "
                "set dataset.allow_external_media: true if you trust the dataset"
            )
        return path

    def _stored_as(self, name: str | None) -> str | None:
        """The name of a field in the database; None if there is no such field."""
        field = self._dataset.get_field(name) if name else None
        return field and (field.db_field or name)

    def _require_splits(self, groups: list[DatasetGroup]) -> None:
        settings = self._settings
        found = {group.split for group in groups}
        skipped = [f"{count:,} {kind}" for kind, count in self._checks.skipped().items()]
        left_out = f"; left out because of errors: {', '.join(skipped)}" if skipped else ""
        for split in ("train", "validation"):
            if split not in found:
                tags = ", ".join(sorted(self._dataset.distinct("tags"))) or "none"
                raise UserError(
                    f"{settings.path}: the {split} split is empty: no usable group has the tag "
                    f"'{getattr(settings.splits, split)}' (dataset.splits.{split}); the dataset's tags are "
                    f"{tags}{left_out}"
                )
        classes = sorted({group.label for group in groups if group.split == "train"})
        if len(classes) < 2:
            raise UserError(
                f"{settings.path}: the training split has only one class ('{shortened(classes[0])}' in "
                f"field '{settings.label_field}', dataset.label_field); at least two are needed"
            )


@contextmanager
def opened(settings: DatasetParams, checks: DataChecks) -> Iterator[GroupReader]:
    """Loads a FiftyOneDataset folder into the database, and deletes it from there when the context ends.

    Raises:
        UserError: when the folder is missing, is not a FiftyOneDataset or does not match the settings.
    """
    folders.require_dataset(Path(settings.path))
    with loaded(Path(settings.path)) as dataset:
        yield GroupReader(dataset, settings, checks)


@contextmanager
def loaded(folder: Path) -> Iterator[Any]:
    """The `fo.Dataset` of a FiftyOneDataset folder; it is deleted from the database when the context ends.

    Raises:
        UserError: when FiftyOne cannot load it.
    """
    dataset = imported(folder)
    try:
        yield dataset
    finally:
        dataset.delete()


def imported(folder: Path, name: str | None = None) -> Any:
    """Imports a FiftyOneDataset folder into the database, and returns its `fo.Dataset`.

    Args:
        name: of the dataset in the database; by default FiftyOne chooses one.

    Raises:
        UserError: when FiftyOne cannot load it.
    """
    fo = database.connect()
    try:
        with console.timed(f"importing {folder} into FiftyOne"):
            return fo.Dataset.from_dir(
                dataset_dir=str(folder),
                dataset_type=fo.types.FiftyOneDataset,
                name=name,
                progress=console.is_interactive(),
            )
    except Exception as error:  # FiftyOne passes on the errors of many parsers
        folders.require_json(folder)
        raise UserError(f"{folder}: FiftyOne cannot load this folder: {first_line(error)}") from None
