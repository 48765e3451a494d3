"""Evaluates the baselines without a network: the class prior, and a regression on the number of returns.

    python -m stages.baselines

Reads data/tensors; writes reports/evaluation/ and reports/predictions/ for `prior` and
`return_count`, in the same form as for every model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from stages.lib.core import console
from stages.lib.evaluation import baselines, results
from stages.lib.evaluation import predictions as stored
from stages.lib.evaluation.predictions import Predictions
from stages.lib.evaluation.results import Cost, Evaluation
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.groups import CachedGroup
from stages.lib.tensors.manifest import Manifest

# Baselines are not random; their single run has this number in place of a seed.
SEED = 0


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    manifest = manifests.load(manifests.FOLDER)
    groups = {split: stored_groups.read(manifests.FOLDER, split) for split in manifest.splits()}
    for name, predict in {"prior": prior, "return_count": return_count}.items():
        evaluate(name, predict, groups, manifest)


def prior(train: list[CachedGroup], groups: list[CachedGroup], num_classes: int) -> np.ndarray:
    """Logits of the training split's class frequencies."""
    return baselines.prior_logits(labels(train), num_classes, len(groups))


def return_count(train: list[CachedGroup], groups: list[CachedGroup], num_classes: int) -> np.ndarray:
    """Logits of a logistic regression on the number of returns and their mean range."""
    return baselines.return_count_logits(features(train), labels(train), features(groups), num_classes)


def evaluate(
    name: str,
    predict: Callable[[list[CachedGroup], list[CachedGroup], int], np.ndarray],
    groups: dict[str, list[CachedGroup]],
    manifest: Manifest,
) -> None:
    predictions = [
        Predictions(SEED, split, rows, predict(groups["train"], rows, len(manifest.classes)))
        for split, rows in groups.items()
        if split != "train"
    ]
    stored.write(name, predictions)
    no_cost = Cost(None, None, None, None, None)
    results.write(
        Evaluation(name, "baseline", no_cost, stored.measure_seeds(predictions, manifest.class_shares), {})
    )


def labels(groups: list[CachedGroup]) -> np.ndarray:
    return np.array([group.label for group in groups])


def features(groups: list[CachedGroup]) -> np.ndarray:
    return np.array([[group.returns, group.mean_range_m] for group in groups])


if __name__ == "__main__":
    console.run(main)
