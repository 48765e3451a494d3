"""Reads the samples of the two slices from the database, and texts from fields of any type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from stages.lib.core.errors import UserError, shortened


@dataclass
class SliceSample:
    """A sample of one slice; label and scene as their fields hold them."""

    id: ObjectId
    slice: str
    filepath: str
    tags: list[Any]
    label: object
    scene: object
    conditions: list[object]  # value of each condition field
    doubled: str | None = None  # path of another sample that its group has in the same slice


def read(
    dataset: Any,
    slices: tuple[str, str],
    label: str | None,
    scene: str | None,
    conditions: Sequence[str] = (),
    *,
    part: str = "label",
) -> tuple[dict[ObjectId, SliceSample], dict[ObjectId, SliceSample]]:
    """The samples of each slice by group.

    Args:
        dataset: an `fo.Dataset`.
        label: the label's field in the database; `scene` likewise, or None.
        conditions: fields in the database that hold plain values or an fo.Classification.
        part: what is read of the label: "label" of an fo.Classification, or "detections" of an fo.Detections.
    """
    group = dataset.group_field
    # Directly from the database: FiftyOne's functions take three times as long.
    whole = {scene, *conditions}
    parts = [*whole, None if label in whole else f"{label}.{part}"]
    wanted = dict.fromkeys(filter(None, ["filepath", "tags", group, *parts]), 1)
    found: dict[str, dict[ObjectId, SliceSample]] = {name: {} for name in slices}
    for document in dataset._sample_collection.find({}, wanted):
        membership = document.get(group) or {}
        name = membership.get("name")
        if name not in found:
            continue
        earlier = found[name].get(membership["_id"])
        if earlier is not None:
            earlier.doubled = document["filepath"]
            continue
        found[name][membership["_id"]] = SliceSample(
            document["_id"],
            name,
            document["filepath"],
            document.get("tags") or [],
            document.get(label),
            document.get(scene) if scene else None,
            [document.get(field) for field in conditions],
        )
    return found[slices[0]], found[slices[1]]


def as_text(value: object) -> str | None:
    """A label or the name of a scene, as a field holds it: text, a number or an fo.Classification; None for none.

    Raises:
        UserError: when it is anything else.
    """
    if isinstance(value, dict):
        if value.get("_cls") not in (None, "Classification"):
            raise UserError(
                f"a field holds a {shortened(value['_cls'])}; text or an fo.Classification is needed"
            )
        value = value.get("label")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a float field holds 3.0 for 3
    if value is None or isinstance(value, str | int | float | ObjectId | datetime):
        return None if value is None else str(value)
    raise UserError(
        f"a field holds a {type(value).__name__}; text, a number or an fo.Classification is needed"
    )
