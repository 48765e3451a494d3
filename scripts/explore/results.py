"""What the App shows of each group: every model's prediction, and how models agree; read from reports/predictions/.

N = groups of the validation and test splits;  K = logits, at least two;  S = seeds
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.lib.comparison import calibration, label_errors
from stages.lib.core.errors import UserError
from stages.lib.evaluation import metrics, predictions
from stages.lib.evaluation.predictions import SplitPredictions
from stages.lib.params import Params
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.groups import CachedGroup
from stages.lib.tensors.manifest import Manifest

# As in models/checkpoints.py, whose import of PyTorch takes seconds.
MODELS = Path("models")


@dataclass(frozen=True)
class ModelResults:
    """One model's predictions; the means over its seeds after temperature scaling."""

    logits: Float[
        np.ndarray, "N K"
    ]  # their softmax are the probabilities; for two classes the first one is zero
    decided: Int[np.ndarray, "N"]  # the class, weighed by the classes' shares as in the report
    confidence: Float[np.ndarray, "N"]  # probability of that class
    wrong_seeds: Int[np.ndarray, "N"]  # number of seeds that decide for another class than the label's


@dataclass(frozen=True)
class Results:
    """All models' results on the groups of validation and test."""

    groups: list[CachedGroup]
    training: list[CachedGroup]  # the groups without results
    classes: list[str]
    seeds: list[int]
    fusions: list[str]
    models: dict[str, ModelResults]
    mistakenness: Float[np.ndarray, "N"]  # the higher, the likelier the label is wrong; 0..1

    @property
    def labels(self) -> Int[np.ndarray, "N"]:
        return np.array([group.label for group in self.groups])

    def is_wrong(self, name: str) -> Bool[np.ndarray, "N"]:
        return self.models[name].decided != self.labels

    @property
    def fusions_wrong(self) -> Int[np.ndarray, "N"]:
        """Number of fusions that decide for another class than the label's."""
        return np.sum([self.is_wrong(name) for name in self.fusions], axis=0)

    @property
    def fusions_disagree(self) -> Bool[np.ndarray, "N"]:
        """Whether two fusions decide for different classes."""
        decided = np.stack([self.models[name].decided for name in self.fusions])
        return (decided != decided[0]).any(axis=0)

    @property
    def conditions(self) -> dict[str, list[str | None]]:
        """By condition, its value for each group; empty where the dataset has no conditions."""
        by_group = [group.conditions for group in self.groups]
        names = dict.fromkeys(name for conditions in by_group for name in conditions)
        return {name: [conditions.get(name) for conditions in by_group] for name in names}


def read(settings: Params, manifest: Manifest) -> Results:
    """The results of all models of params.yaml.

    Raises:
        UserError: when predictions are missing, or are those of another dataset.
    """
    if settings.dataset.path != manifest.source:
        raise UserError(
            f"params.yaml: dataset.path is '{settings.dataset.path}', but data/tensors holds '{manifest.source}'; "
            "run `dvc repro`"
        )
    names = settings.model_names()
    splits = [split for split in manifest.splits() if split != "train"]
    groups = {split: stored_groups.read(manifests.FOLDER, split) for split in splits}
    read_by_model = {}
    for name in names:
        _require_same_data(name, manifest)
        read_by_model[name] = {split: predictions.read(name, split) for split in splits}
        for split, part in read_by_model[name].items():
            _require_same_groups(name, split, part, groups[split], manifest)
    models, probabilities = {}, []
    for name, parts in read_by_model.items():
        models[name], seed_mean = _model_results(parts, manifest)
        probabilities.append(seed_mean)
    all_groups = [group for split in splits for group in groups[split]]
    return Results(
        groups=all_groups,
        training=stored_groups.read(manifests.FOLDER, "train"),
        classes=manifest.classes,
        seeds=read_by_model[names[0]][splits[0]].seeds,
        fusions=settings.fusion_names(),
        models=models,
        mistakenness=label_errors.mistakenness(
            np.mean(probabilities, axis=0), np.array([group.label for group in all_groups])
        ),
    )


def _model_results(
    parts: dict[str, SplitPredictions], manifest: Manifest
) -> tuple[ModelResults, Float[np.ndarray, "N K"]]:
    """A model's results, and its probabilities as the mean over the seeds."""
    validation = parts["validation"]
    temperatures = [calibration.temperature(logits, validation.labels) for logits in validation.logits]
    scaled = (
        np.concatenate([part.logits for part in parts.values()], axis=1)
        / np.array(temperatures)[:, None, None]
    )
    labels = np.concatenate([part.labels for part in parts.values()])
    decided_by_seed = np.concatenate(
        [part.decisions(manifest.class_shares) for part in parts.values()], axis=1
    )
    logits = scaled.mean(axis=0)
    decided = metrics.predicted(metrics.weighed(logits, manifest.class_shares))
    confidence = np.exp(metrics.log_probabilities(logits))[np.arange(len(labels)), decided]
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    wrong_seeds = (decided_by_seed != labels).sum(axis=0)
    seed_mean = np.mean([np.exp(metrics.log_probabilities(seed)) for seed in scaled], axis=0)
    return ModelResults(logits, decided, confidence, wrong_seeds), seed_mean


def _require_same_data(name: str, manifest: Manifest) -> None:
    """Raises UserError when the model was trained on another dataset than that of data/tensors."""
    for path in sorted((MODELS / name).glob("seed-*.json")):
        digest = json.loads(path.read_text()).get("data_digest")
        if digest != manifest.digest:
            raise UserError(
                f"{path}: trained on other data than data/tensors (digest {str(digest)[:12]}, not "
                f"{manifest.digest[:12]}); run `dvc repro`"
            )


def _require_same_groups(
    name: str, split: str, part: SplitPredictions, groups: list[CachedGroup], manifest: Manifest
) -> None:
    """Raises UserError unless the predictions are of these groups, with these labels and classes."""
    path = predictions.FOLDER / f"{name}.parquet"
    if part.groups != [group.group for group in groups]:
        raise UserError(f"{path}: holds other groups of the {split} split than data/tensors; run `dvc repro`")
    if part.labels.tolist() != [group.label for group in groups] or part.num_logits != manifest.num_logits:
        raise UserError(f"{path}: holds other labels of the {split} split than data/tensors; run `dvc repro`")
