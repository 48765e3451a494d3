"""The fields of the App's dataset: a prediction and a number of wrong seeds per model, and how models agree."""

from __future__ import annotations

import io
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from bson import Binary, ObjectId
from jaxtyping import Float

from scripts.explore import dataset_copy
from scripts.explore.dataset_copy import Copy
from scripts.explore.results import Results
from stages.lib.datasets import database
from stages.lib.params import Dataset as DatasetParams
from stages.lib.tensors.groups import CachedGroup


@dataclass(frozen=True)
class FieldNames:
    """The names of the fields; those that the user's dataset has already get a suffix."""

    label: str
    predictions: dict[str, str]  # by model
    wrong_seeds: dict[str, str]  # by model
    evaluations: dict[str, str]  # by model
    fusions_wrong: str
    fusions_disagree: str
    mistakenness: str
    split: str
    scene: str
    writes_scene: bool  # False where the user's dataset has scenes in a field
    conditions: dict[str, str]


def names(found: Results, settings: DatasetParams, dataset: Any) -> FieldNames:
    """The names of all fields, before any of them is added."""
    taken = dataset.get_field_schema()
    has_scenes = settings.scene_field in taken

    def free(name: str) -> str:
        return dataset_copy.free_name(name, taken)

    models = found.models
    return FieldNames(
        label=settings.label_field,
        predictions={name: free(name) for name in models},
        wrong_seeds={name: free(f"{name}_wrong_seeds") for name in models},
        evaluations={name: free(f"eval_{name}") for name in models},
        fusions_wrong=free("fusions_wrong"),
        fusions_disagree=free("fusions_disagree"),
        mistakenness=free("mistakenness"),
        split=free("split"),
        scene=str(settings.scene_field) if has_scenes else free("scene"),
        writes_scene=not has_scenes,
        conditions={name: free(f"condition_{name}") for name in found.conditions},
    )


def write(copied: Copy, found: Results, given: FieldNames) -> None:
    """Adds all fields to the schema and writes their values to all slices; training groups have no results."""
    _add_to_schema(copied.dataset, found, given)
    groups = [*found.groups, *found.training]
    facts = (_facts(group, given) for group in groups)
    rows = itertools.chain(_results(found, given), itertools.repeat({}))
    values = (fact | result for fact, result in zip(facts, rows, strict=False))
    dataset_copy.write_values(copied, [group.group for group in groups], values)


def _add_to_schema(dataset: Any, found: Results, given: FieldNames) -> None:
    fo = database.connect()
    seeds = len(found.seeds)
    classification = {"embedded_doc_type": fo.Classification}
    for name in found.models:
        about = f"{name}: mean over {seeds} seeds, after temperature scaling; class as in the report"
        field = given.predictions[name]
        dataset.add_sample_field(field, fo.EmbeddedDocumentField, description=about, **classification)
        about = f"number of seeds of {name}, of {seeds}, that are wrong"
        dataset.add_sample_field(given.wrong_seeds[name], fo.IntField, description=about)
    fusions = len(found.fusions)
    others = {
        given.fusions_wrong: (fo.IntField, f"number of fusions, of {fusions}, that are wrong"),
        given.fusions_disagree: (fo.BooleanField, "whether two fusions decide for different classes"),
        given.mistakenness: (
            fo.FloatField,
            "how much the models prefer another class than the label's, 0..1",
        ),
        given.split: (fo.StringField, "split of the group"),
        given.scene: (fo.StringField, "scene of the group"),
        **{name: (fo.StringField, "condition of the recording") for name in given.conditions.values()},
    }
    for name, (kind, description) in others.items():
        if name not in dataset.get_field_schema():
            dataset.add_sample_field(name, kind, description=description)


def _facts(group: CachedGroup, given: FieldNames) -> dict[str, Any]:
    """What is known of every group, by field."""
    conditions = group.conditions
    return {
        given.split: group.split,
        **({given.scene: group.scene} if given.writes_scene else {}),
        **{field: conditions[name] for name, field in given.conditions.items() if name in conditions},
    }


def _results(found: Results, given: FieldNames) -> Iterator[dict[str, Any]]:
    """The results of each group, by field, as the database stores them."""
    wrong, disagree = found.fusions_wrong.tolist(), found.fusions_disagree.tolist()
    for i in range(len(found.groups)):
        values: dict[str, Any] = {
            given.fusions_wrong: wrong[i],
            given.fusions_disagree: disagree[i],
            given.mistakenness: float(found.mistakenness[i]),
        }
        for name, model in found.models.items():
            label = found.classes[int(model.decided[i])]
            values[given.predictions[name]] = _classification(
                label, float(model.confidence[i]), model.logits[i]
            )
            values[given.wrong_seeds[name]] = int(model.wrong_seeds[i])
        yield values


def _classification(label: str, confidence: float, logits: Float[np.ndarray, "K"]) -> dict[str, Any]:
    return {
        "_id": ObjectId(),
        "_cls": "Classification",
        "tags": [],
        "label": label,
        "confidence": confidence,
        "logits": Binary(_packed(logits)),
    }


def _packed(vector: Float[np.ndarray, "K"]) -> bytes:
    """A vector as FiftyOne stores it."""
    buffer = io.BytesIO()
    np.save(buffer, vector, allow_pickle=False)
    return zlib.compress(buffer.getvalue())
