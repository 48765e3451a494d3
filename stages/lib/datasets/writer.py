"""Writes FiftyOne datasets reproducibly: the same content gives the same bytes."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.core import console
from stages.lib.datasets import database

_SAMPLES_START = '{"samples": ['
_CHUNK = 2**20  # characters of samples.json that are read together


@dataclass(frozen=True)
class NewGroup:
    """One group to write; all its files lie in the dataset's folder."""

    scene: str
    label: str
    split: str
    files: dict[str, Path]  # media file by slice
    raster: np.ndarray  # 4 x H x W, stored in the field `xyza` of slice `lidar_img`
    fields: dict[str, Any] = field(default_factory=dict)  # more fields of the samples, by name


def write(
    folder: Path, name: str, groups: Iterable[NewGroup], seed: int, info: dict[str, Any] | None = None
) -> None:
    """Writes a FiftyOneDataset for existing media files, with one slice for each file of a group.

    The same groups and seed give the same bytes: FiftyOne's ids, time stamps and random keys, which differ each
    time, are replaced by ones that the seed determines.

    Args:
        info: about the dataset as a whole, stored as `dataset.info`.
    """
    fo = database.connect()
    dataset = fo.Dataset()
    try:
        dataset.add_group_field("group", default="rgb")
        dataset.info = info or {}
        dataset.add_samples(itertools.chain.from_iterable(map(_samples, groups)))
        dataset.export(
            export_dir=str(folder),
            dataset_type=fo.types.FiftyOneDataset,
            export_media=False,
            rel_dir=str(folder.resolve()),
            progress=console.is_interactive(),
        )
    finally:
        dataset.delete()
    _make_reproducible(folder, name, seed)


def _samples(group: NewGroup) -> Iterator[Any]:
    fo = database.connect()
    membership = fo.Group()
    for slice_name, path in group.files.items():
        sample = fo.Sample(
            filepath=str(path.resolve()),
            tags=[group.split],
            group=membership.element(slice_name),
            ground_truth=fo.Classification(label=group.label),
            scene=group.scene,
            **group.fields,
        )
        if slice_name == "lidar_img":
            sample["xyza"] = group.raster
        yield sample


def _make_reproducible(folder: Path, name: str, seed: int) -> None:
    """Replaces random values and time stamps in both files; the same id gets the same replacement."""
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

    metadata = folder / "metadata.json"
    content = rewritten(json.loads(metadata.read_text()))
    content |= {"name": name, "slug": re.sub(r"[^a-z0-9]+", "-", name.lower())}
    # FiftyOne keeps its fields in a set, whose order differs between processes.
    content["sample_fields"].sort(key=lambda field: field["name"])
    content["sample_collection_name"] = f"samples.{content['_id']['$oid']}"
    metadata.write_text(json.dumps(content))
    samples = folder / "samples.json"
    unfinished = samples.with_suffix(".tmp")
    with unfinished.open("w") as target:
        target.write(_SAMPLES_START)
        for number, sample in enumerate(_read_samples(samples)):
            target.write((", " if number else "") + json.dumps(rewritten(sample)))
        target.write("]}")
    unfinished.replace(samples)


def _read_samples(path: Path) -> Iterator[Any]:
    """The samples in FiftyOne's samples.json one by one: those of a large dataset would need too much memory."""
    decoder = json.JSONDecoder()
    with path.open() as source:
        text, position = source.read(_CHUNK), len(_SAMPLES_START)
        if not text.startswith(_SAMPLES_START):
            raise ValueError("FiftyOne has written samples.json in an unknown form")
        while text[position:] != "]}":
            position += text.startswith(",", position)
            try:
                sample, position = decoder.raw_decode(text, position)
            except json.JSONDecodeError:
                more = source.read(_CHUNK)
                if not more:
                    raise
                text, position = text[position:] + more, 0
                continue
            yield sample
