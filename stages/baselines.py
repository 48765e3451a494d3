"""Evaluates what needs no network: the class prior, and a guess from the size of the scan.

    python -m stages.baselines

Reads data/tensors; writes reports/evaluation/ and reports/predictions/ for `prior` and
`return_count`, in the same form as any model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from stages.lib import store, terminal
from stages.lib.evaluation import evaluations, guessing
from stages.lib.evaluation import predictions as stored
from stages.lib.evaluation.evaluations import Cost, Evaluation
from stages.lib.evaluation.predictions import Predictions
from stages.lib.store import groups as stored_groups
from stages.lib.store import manifest as manifests
from stages.lib.store.groups import Group
from stages.lib.store.manifest import Manifest

# Baselines draw nothing at random; their one run carries this number where a seed stands.
SEED = 0


def main(arguments: Sequence[str] = ()) -> None:
    terminal.no_arguments(arguments)
    manifest = manifests.load(store.FOLDER)
    groups = {split: stored_groups.read(store.FOLDER, split) for split in manifest.splits()}
    for name, predict in {"prior": prior, "return_count": return_count}.items():
        evaluate(name, predict, groups, manifest)


def prior(train: list[Group], groups: list[Group], num_classes: int) -> np.ndarray:
    """Always the class frequencies of the training split."""
    return guessing.prior_logits(labels(train), num_classes, len(groups))


def return_count(train: list[Group], groups: list[Group], num_classes: int) -> np.ndarray:
    """Logistic regression on the number of returns and their mean range."""
    return guessing.return_count_logits(features(train), labels(train), features(groups), num_classes)


def evaluate(
    name: str,
    predict: Callable[[list[Group], list[Group], int], np.ndarray],
    groups: dict[str, list[Group]],
    manifest: Manifest,
) -> None:
    predictions = [
        Predictions(SEED, split, rows, predict(groups["train"], rows, len(manifest.classes)))
        for split, rows in groups.items()
        if split != "train"
    ]
    stored.write(name, predictions)
    no_cost = Cost(None, None, None, None, None)
    evaluations.write(Evaluation(name, "baseline", no_cost, stored.measure_seeds(predictions), {}))


def labels(groups: list[Group]) -> np.ndarray:
    return np.array([group.label for group in groups])


def features(groups: list[Group]) -> np.ndarray:
    return np.array([[group.returns, group.mean_range_m] for group in groups])


if __name__ == "__main__":
    terminal.run(main)
