"""Labels that may be wrong: flipped ones come first, and nets that know nothing judge nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from stages.lib.comparison import label_errors
from stages.lib.evaluation.predictions import SplitPredictions

SHARES = np.array([0.5, 0.5])
CLASSES = ["cubes", "spheres"]
SEEDS = [0, 1, 2]


def draw(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two features of each class; they overlap a little, as real data do."""
    labels = np.arange(count) % 2
    return rng.normal(0, 0.6, (count, 2)) + 2 * labels[:, None], labels


def as_predictions(nets: list[MLPClassifier], features: np.ndarray, labels: np.ndarray) -> SplitPredictions:
    logits = [np.diff(net.predict_log_proba(features), axis=1) for net in nets]
    groups = [f"group-{i}" for i in range(len(labels))]
    return SplitPredictions(SEEDS, groups, groups, labels, np.stack(logits))


@pytest.fixture(scope="module")
def trained() -> tuple[dict[str, SplitPredictions], dict[str, SplitPredictions]]:
    """Predictions on test and validation of small nets: of each feature alone, and of both."""
    rng = np.random.default_rng(0)
    data = {
        split: draw(count, rng) for split, count in {"train": 200, "validation": 100, "test": 200}.items()
    }
    found: dict[str, dict[str, SplitPredictions]] = {"test": {}, "validation": {}}
    for name, columns in {"rgb": [0], "lidar": [1], "both": [0, 1]}.items():
        features, labels = data["train"]
        nets = [
            MLPClassifier((8,), solver="lbfgs", alpha=1, random_state=seed).fit(features[:, columns], labels)
            for seed in SEEDS
        ]
        for split, predictions in found.items():
            predictions[name] = as_predictions(nets, data[split][0][:, columns], data[split][1])
    return found["test"], found["validation"]


def test_flipped_labels_come_first(
    trained: tuple[dict[str, SplitPredictions], dict[str, SplitPredictions]],
) -> None:
    """Of 200 labels five are flipped after training, all of samples that the nets are sure of."""
    test, validation = trained
    checked, listed = label_errors.check("test", test, validation, SHARES, CLASSES)
    assert checked.nets == checked.trained == 9
    honest = {error.group for error in listed}
    mean = np.mean([found.logits.mean(axis=0)[:, 0] for found in test.values()], axis=0)
    sure = np.argsort(-np.abs(mean))
    flipped = [int(i) for i in sure if (mean[i] > 0) == test["rgb"].labels[i]][:20:4]
    labels = test["rgb"].labels.copy()
    labels[flipped] = 1 - labels[flipped]
    wrong = {name: replace(found, labels=labels) for name, found in test.items()}
    checked, listed = label_errors.check("test", wrong, validation, SHARES, CLASSES)
    assert {error.group for error in listed[:5]} == {f"group-{i}" for i in flipped}
    assert {error.group for error in listed[5:]} <= honest and checked.found == len(listed)
    for error in listed[:5]:
        assert error.label != error.suggested and error.split == "test"
        assert error.mistakenness > 0.9 and error.agree == error.nets == 9
    scores = [error.mistakenness for error in listed]
    assert scores == sorted(scores, reverse=True)


def test_nets_that_know_nothing_judge_nothing(
    trained: tuple[dict[str, SplitPredictions], dict[str, SplitPredictions]],
) -> None:
    test, validation = trained
    shuffled = np.random.default_rng(1).permutation(test["rgb"].labels)
    guessing = {name: replace(found, labels=shuffled) for name, found in test.items()}
    checked, listed = label_errors.check("test", guessing, validation, SHARES, CLASSES)
    assert (checked.nets, checked.trained, checked.found, listed) == (0, 9, 0, [])


def test_a_net_that_knows_nothing_has_no_vote(
    trained: tuple[dict[str, SplitPredictions], dict[str, SplitPredictions]],
) -> None:
    """The others agree without it."""
    test, validation = trained
    noise = np.random.default_rng(2).normal(size=test["rgb"].logits.shape)
    more = test | {"hadamard": replace(test["rgb"], logits=noise)}
    checked, listed = label_errors.check(
        "test", more, validation | {"hadamard": more["hadamard"]}, SHARES, CLASSES
    )
    assert (checked.nets, checked.trained) == (9, 12)
    assert listed == label_errors.check("test", test, validation, SHARES, CLASSES)[1]


def test_classes_that_nobody_learned_are_not_judged(
    trained: tuple[dict[str, SplitPredictions], dict[str, SplitPredictions]],
) -> None:
    """Three classes, the last one without training groups: all its samples are decided for another class."""
    test, validation = trained

    def widened(found: SplitPredictions) -> SplitPredictions:
        logits = np.concatenate([np.zeros_like(found.logits), found.logits, found.logits - 9], axis=2)
        labels = found.labels.copy()
        labels[:10] = 2
        return replace(found, logits=logits, labels=labels)

    parts = [{name: widened(found) for name, found in part.items()} for part in (test, validation)]
    classes = [*CLASSES, "cones"]
    checked, listed = label_errors.check("test", *parts, np.array([0.5, 0.5, 0.0]), classes)
    assert checked.nets == 9 and "cones" not in {error.label for error in listed}
    checked, listed = label_errors.check("test", *parts, np.array([0.4, 0.4, 0.2]), classes)
    assert checked.nets == 0  # of a class that could be learned, the nets get every sample wrong


def test_mistakenness_by_hand() -> None:
    probability = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.5, 0.5, 0.0]])
    labels = np.array([0, 2, 1])
    assert label_errors.suggested(probability, labels).tolist() == [1, 0, 0]
    assert label_errors.mistakenness(probability, labels) == pytest.approx([0.25, 0.8, 0.5])
