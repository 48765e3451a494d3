"""Reads the groups of a dataset to predict: with or without labels and splits, and even with one sensor only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bson import ObjectId

from stages.lib.core.errors import UserError, require_short, shortened
from stages.lib.core.names import SENSORS
from stages.lib.datasets import database, folders, slice_samples
from stages.lib.datasets.reader import DatasetGroup, GroupReader, loaded
from stages.lib.datasets.slice_samples import SliceSample
from stages.lib.datasets.validation import DataChecks
from stages.lib.params import Dataset as DatasetParams


class PredictionReader(GroupReader):
    """All groups of a loaded dataset, sorted by key.

    What a group lacks is empty text: its label, or the path of a sensor. A group without a scene is a scene of its
    own. `split` is always empty.
    """

    def __init__(
        self,
        dataset: Any,
        settings: DatasetParams,
        checks: DataChecks,
        *,
        sensors: Sequence[str] = SENSORS,
        tag: str | None = None,
        needs_labels: bool = False,
    ) -> None:
        """Reads everything except images and scans.

        Args:
            checks: receives the errors of single groups; these groups are left out.
            sensors: whose slices the dataset has to have.
            tag: only groups with this tag; None: all.
            needs_labels: whether a missing label field is an error.

        Raises:
            UserError: when a slice or a field is missing, or there is no group.
        """
        self._sensors, self._tag, self._needs_labels = sensors, tag, needs_labels
        # Nothing is predicted by conditions, so a field of that name may hold anything.
        # mypy does not see that the groups of params are dataclasses.
        super().__init__(dataset, replace(settings, condition_fields=[]), checks)  # type: ignore[type-var]

    def _check_schema(self) -> None:
        settings, dataset = self._settings, self._dataset
        if dataset.media_type != "group":
            raise UserError(
                f"{settings.path}: media type is '{dataset.media_type}'; a grouped dataset with an RGB "
                "and a LiDAR slice is needed"
            )
        names = {"rgb": settings.rgb.slice, "lidar": settings.lidar.slice}
        for sensor in self._sensors:
            if names[sensor] not in dataset.group_slices:
                raise UserError(
                    f"{settings.path}: no group slice '{names[sensor]}' (dataset.{sensor}.slice); its slices are "
                    f"{', '.join(dataset.group_slices)}; --without {sensor} predicts without this sensor"
                )
        fields = dataset.get_field_schema()
        wanted = {"--field": settings.label_field if self._needs_labels else None}
        wanted["dataset.lidar.field"] = settings.lidar.field if "lidar" in self._sensors else None
        for origin, field in wanted.items():
            if field is not None and field not in fields:
                raise UserError(
                    f"{settings.path}: no field '{field}' ({origin}); its fields are "
                    f"{', '.join(sorted(fields))}"
                )
        label = fields.get(settings.label_field)
        if label and getattr(label, "document_type", None) is not database.connect().Classification:
            raise UserError(
                f"{settings.path}: field '{settings.label_field}' is not an fo.Classification; name a field that is, "
                "with --field"
            )

    def _read_groups(self) -> list[DatasetGroup]:
        settings = self._settings
        images, scans = self._read_samples()
        groups: dict[str, DatasetGroup] = {}
        for group_id in dict.fromkeys([*images, *scans]):
            samples = [part[group_id] for part in (images, scans) if group_id in part]
            if self._tag is not None and not any(self._tag in sample.tags for sample in samples):
                continue
            try:
                group = self._open_group(images.get(group_id), scans.get(group_id), samples)
                if group.key in groups:
                    raise UserError(f"the file of {group.key} belongs to several groups")
            except UserError as error:
                place = f"{settings.path}: group of {shortened(samples[0].filepath, 200)}"
                self._checks.error("unusable group", place, str(error).removeprefix(f"{settings.path}: "))
            else:
                groups[group.key] = group
        self._checks.raise_errors()
        if not groups:
            tags = ", ".join(sorted(map(shortened, self._dataset.distinct("tags")))) or "none"
            of_tag = f" with the tag '{self._tag}' (its tags are {tags})" if self._tag is not None else ""
            raise UserError(f"{settings.path}: no usable group{of_tag}")
        return [groups[key] for key in sorted(groups)]

    def _open_group(
        self, image: SliceSample | None, scan: SliceSample | None, samples: list[SliceSample]
    ) -> DatasetGroup:
        """A group from the samples that it has; raises UserError when these contradict each other."""
        for sample in samples:
            if sample.doubled:
                also = shortened(sample.doubled, 200)
                raise UserError(f"several samples in slice '{sample.slice}', also {also}")
        labels = {text for sample in samples if (text := slice_samples.as_text(sample.label))}
        scenes = {text for sample in samples if (text := slice_samples.as_text(sample.scene))}
        for what, found in (("labelled", labels), ("of scenes", scenes)):
            if len(found) > 1:
                some = " and ".join(f"'{shortened(text)}'" for text in sorted(found))
                raise UserError(f"its slices are {what} {some}")
        key = os.path.splitext(samples[0].filepath.removeprefix(f"{self._folder}{os.sep}"))[0]
        scene = scenes.pop() if scenes else key
        require_short([*labels, scene, key], "text")
        return DatasetGroup(
            key=key,
            scene=scene,
            label=labels.pop() if labels else "",
            split="",
            image_path=self._inside(image.filepath) if image else "",
            scan_path=self._inside(scan.filepath) if scan else "",
            lidar_id=scan.id if scan else ObjectId(),  # a new one is the id of no sample
        )


@contextmanager
def opened(
    settings: DatasetParams,
    checks: DataChecks,
    *,
    sensors: Sequence[str],
    tag: str | None,
    needs_labels: bool,
) -> Iterator[PredictionReader]:
    """Loads a FiftyOneDataset folder into the database, and deletes it from there when the context ends.

    Arguments are those of PredictionReader.

    Raises:
        UserError: when the folder is missing, is not a FiftyOneDataset or does not match the settings.
    """
    folder = Path(settings.path)
    folders.require_dataset(folder, setting=None)
    with loaded(folder) as dataset:
        yield PredictionReader(dataset, settings, checks, sensors=sensors, tag=tag, needs_labels=needs_labels)
