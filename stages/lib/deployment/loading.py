"""Loads a trained model as one that can be deployed, and checks that its parts belong together.

Reads data/tensors/manifest.json, models/NAME/, reports/predictions/NAME.parquet and reports/evaluation/NAME.json.

N = samples;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stages.lib import fusions
from stages.lib.comparison import calibration
from stages.lib.core.errors import UserError
from stages.lib.deployment.model import DeployedModel
from stages.lib.evaluation import predictions as stored
from stages.lib.evaluation import results
from stages.lib.evaluation.predictions import SplitPredictions
from stages.lib.evaluation.results import Evaluation
from stages.lib.fusions import ModelSpec
from stages.lib.models import checkpoints
from stages.lib.models.networks import FusionNet
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split

_COMPARED = 16  # validation samples on which weights and stored predictions must agree
_CLOSE = 0.01  # difference of two logits of equal weights on two devices, relative where a logit exceeds 1


@dataclass(frozen=True)
class Deployable:
    """A trained model that can be deployed, and what is known about it."""

    spec: ModelSpec
    seeds: list[int]
    manifest: Manifest
    model: DeployedModel  # the seeds' networks in this order
    validation: SplitPredictions  # of these seeds
    evaluation: Evaluation
    facts: dict[str, Any]  # stored beside the first seed's weights

    @property
    def networks(self) -> list[FusionNet]:
        return [network for network in self.model.networks if isinstance(network, FusionNet)]

    @property
    def name(self) -> str:
        return self.spec.name


def load(name: str, seeds: Sequence[int] | None = None) -> Deployable:
    """The trained networks of these seeds, by default of all that were evaluated, with a temperature for each.

    Raises:
        UserError: when the model or a seed is not trained or not evaluated, or belongs to other data.
    """
    spec = _spec(name)
    manifest = manifests.load(manifests.FOLDER)
    if not any(checkpoints.MODELS.joinpath(name).glob("seed-*.safetensors")):
        raise UserError(f"models/{name}: not trained yet; add {name} to params.yaml and run `dvc repro`")
    found = stored.read(name, "validation")
    _require_same_data(name, found, manifest)
    if seeds is not None:
        found = _of_seeds(name, found, seeds)
    facts = [_metadata(name, seed, manifest) for seed in found.seeds]
    sizes = checkpoints.trained_architecture(name, found.seeds[0])
    networks = [checkpoints.load_network(name, seed, sizes) for seed in found.seeds]
    temperatures = [calibration.temperature(logits, found.labels) for logits in found.logits]
    model = DeployedModel(networks, manifest, temperatures).eval()
    _require_same_weights(name, model, found, manifest)
    return Deployable(spec, found.seeds, manifest, model, found, results.read(name), facts[0])


def split_predictions(name: str, split: str, seeds: Sequence[int]) -> SplitPredictions:
    """A model's predictions on a split by these seeds; raises UserError when they are missing."""
    return _of_seeds(name, stored.read(name, split), seeds)


def _spec(name: str) -> ModelSpec:
    try:
        return fusions.spec(name)
    except ValueError:
        trained = sorted(path.name for path in checkpoints.MODELS.glob("*") if path.is_dir())
        known = ", ".join(trained) or "none; run `dvc repro`"
        raise UserError(f"no model named '{name}'; trained are {known}") from None


def _of_seeds(name: str, found: SplitPredictions, seeds: Sequence[int]) -> SplitPredictions:
    unknown = [seed for seed in seeds if seed not in found.seeds]
    if unknown:
        raise UserError(
            f"{name} has no seed {', '.join(map(str, unknown))}; trained and evaluated are "
            f"{', '.join(map(str, found.seeds))}"
        )
    wanted = sorted(set(seeds))
    rows = [found.seeds.index(seed) for seed in wanted]
    return SplitPredictions(wanted, found.groups, found.scenes, found.labels, found.logits[rows])


def _require_same_data(name: str, found: SplitPredictions, manifest: Manifest) -> None:
    cached = stored_groups.read(manifests.FOLDER, "validation")
    same = found.groups == [group.group for group in cached]
    same = same and found.labels.tolist() == [group.label for group in cached]
    if not same or found.num_logits != manifest.num_logits:
        raise UserError(
            f"{stored.FOLDER}/{name}.parquet: predictions of another dataset than {manifests.FOLDER}; "
            "run `dvc repro`"
        )


def _metadata(name: str, seed: int, manifest: Manifest) -> dict[str, Any]:
    path = checkpoints.weights_path(checkpoints.MODELS, name, seed).with_suffix(".json")
    checkpoints.require_file(path)
    facts: dict[str, Any] = json.loads(path.read_text())
    if facts["data_digest"] != manifest.digest or facts["classes"] != manifest.classes:
        raise UserError(f"{path}: trained on another dataset than {manifests.FOLDER}; run `dvc repro`")
    return facts


@torch.no_grad()
def _require_same_weights(
    name: str, model: DeployedModel, found: SplitPredictions, manifest: Manifest
) -> None:
    """Raises UserError when the predictions, which the temperatures come from, are not of these weights."""
    split = Split(manifests.FOLDER, manifest, "validation")
    inputs = split.batch(range(min(_COMPARED, len(split))))
    for seed, network, expected in zip(found.seeds, model.networks, found.logits, strict=True):
        logits = network(*inputs).numpy()
        expected = expected[: len(logits)]
        if (np.abs(logits - expected) > _CLOSE * np.maximum(1, np.abs(expected))).any():
            raise UserError(
                f"{stored.FOLDER}/{name}.parquet: not of the weights in models/{name} (seed {seed}); "
                "run `dvc repro`"
            )
