"""Metrics, compared with values computed by hand or by an independent library."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
)

from stages.lib.evaluation import baselines, metrics
from stages.lib.evaluation.metrics import Metrics


def measure(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """All metrics, with classes equally frequent in training."""
    num_classes = max(2, logits.shape[1])
    return metrics.measure(logits, labels, np.full(num_classes, 1 / num_classes))


def test_binary_metrics_by_hand() -> None:
    # Probabilities of label 1: 0.8, 0.6, 0.4, 0.1
    logits = np.log(np.array([[4.0], [1.5], [2 / 3], [1 / 9]]))
    labels = np.array([1, 0, 1, 0])
    measured = measure(logits, labels)
    expected_loss = -(math.log(0.8) + math.log(0.4) + math.log(0.4) + math.log(0.9)) / 4
    assert measured.loss == pytest.approx(expected_loss)
    assert measured.accuracy == 0.5
    assert measured.balanced_accuracy == 0.5
    assert measured.f1 == pytest.approx(0.5)
    assert measured.auroc == pytest.approx(0.75)
    # Ranked 1, 0, 1, 0: precision 1 at the first and 2/3 at the second hit.
    assert measured.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert measured.brier == pytest.approx((0.2**2 + 0.6**2 + 0.6**2 + 0.1**2) / 4)
    assert measured.f1_rare == pytest.approx(0.5)
    assert metrics.confusion(logits, labels).tolist() == [[1, 1], [1, 1]]
    # Four bins of one sample: confidences 0.8, 0.6, 0.6, 0.9; right, wrong, wrong, right.
    assert measured.ece == pytest.approx((0.2 + 0.6 + 0.6 + 0.1) / 4)


def test_multiclass_metrics_by_hand() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]]))
    labels = np.array([0, 1, 2, 2])
    measured = measure(logits, labels)
    assert measured.loss == pytest.approx(
        -(math.log(0.7) + math.log(0.3) + math.log(0.8) + math.log(0.6)) / 4
    )
    assert measured.accuracy == 0.75
    assert measured.balanced_accuracy == pytest.approx(2 / 3)
    assert measured.f1 == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert measured.auroc == pytest.approx(1.0)
    assert measured.f1_rare == 0, "of classes 0 and 1, equally rare, the last one, which is never predicted"
    squares = [0.3**2 + 0.2**2 + 0.1**2, 0.5**2 + 0.7**2 + 0.2**2, 2 * 0.1**2 + 0.2**2, 2 * 0.2**2 + 0.4**2]
    assert measured.brier == pytest.approx(sum(squares) / 4)
    assert metrics.confusion(logits, labels).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 2]]


@pytest.mark.parametrize("seed", range(12))
def test_metrics_equal_scikit_learns(seed: int) -> None:
    """On random predictions of two to five classes, some of them absent or never predicted, with equal scores."""
    rng = np.random.default_rng(seed)
    num_classes = 2 + seed % 4
    labels = rng.integers(0, num_classes - (seed % 3 == 2), 60)
    logits = np.round(rng.normal(size=(60, 1 if num_classes == 2 else num_classes)), 1)
    measured = measure(logits, labels)
    log_probability, predictions = metrics.log_probabilities(logits), metrics.predicted(logits)
    occurring = np.unique(labels)
    assert log_probability == pytest.approx(log_softmax(log_probability, axis=1))
    assert measured.loss == pytest.approx(
        log_loss(labels, np.exp(log_probability), labels=range(num_classes))
    )
    assert measured.accuracy == pytest.approx(accuracy_score(labels, predictions))
    recalls = recall_score(labels, predictions, labels=occurring, average=None, zero_division=0)
    assert measured.balanced_accuracy == pytest.approx(recalls.mean())
    f1 = f1_score(labels, predictions, labels=occurring, average="macro", zero_division=0)
    assert measured.f1 == pytest.approx(f1)
    expected = confusion_matrix(labels, predictions, labels=range(num_classes))
    assert (metrics.confusion(logits, labels) == expected).all()
    if len(occurring) > 1:
        scores = log_probability - np.log1p(-np.exp(log_probability)) if num_classes == 2 else log_probability
        ranked = [1] if num_classes == 2 else occurring
        areas = [roc_auc_score(labels == label, scores[:, label]) for label in ranked]
        assert measured.auroc == pytest.approx(np.mean(areas))
        precisions = [average_precision_score(labels == label, scores[:, label]) for label in ranked]
        assert measured.average_precision == pytest.approx(np.mean(precisions))
    rarest = min(occurring, key=lambda label: ((labels == label).sum(), -label))
    assert measured.f1_rare == pytest.approx(
        f1_score(labels == rarest, predictions == rarest, zero_division=0)
    )
    assert measured.brier == pytest.approx(
        brier_score_loss(labels, np.exp(log_probability), labels=range(num_classes))
    )


def test_imbalance_shows_in_balanced_accuracy_only() -> None:
    labels = np.array([0] * 9 + [1])
    measured = measure(np.full((10, 1), -3.0), labels)
    assert measured.accuracy == 0.9
    assert measured.balanced_accuracy == 0.5


def test_auroc_is_not_defined_for_one_class() -> None:
    assert measure(np.zeros((3, 1)), np.array([1, 1, 1])).auroc is None


def test_extreme_logits_stay_finite() -> None:
    measured = measure(np.array([[800.0], [-800.0]]), np.array([0, 0]))
    assert measured.loss == pytest.approx(400.0)


def test_prior_of_the_notebooks_data_has_the_known_entropy() -> None:
    labels = np.array([0] * 1009 + [1] * 67)
    logits = baselines.prior_logits(labels, 2, len(labels))
    assert measure(logits, labels).loss == pytest.approx(0.233, abs=0.0005)


def test_prior_is_finite_for_a_class_without_training_samples() -> None:
    logits = baselines.prior_logits(np.array([0, 1, 1]), 3, 2)
    assert np.isfinite(logits).all()
    assert metrics.predicted(logits).tolist() == [1, 1]


def test_return_count_predicts_classes_of_different_size() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    features = np.stack([100 + 50 * labels + rng.normal(0, 5, 200), rng.uniform(10, 20, 200)], axis=1)
    logits = baselines.return_count_logits(features, labels, features, 2)
    assert measure(logits, labels).balanced_accuracy > 0.95


def test_equally_confident_predictions_share_a_bin() -> None:
    """Equal probabilities are calibrated on balanced classes, in any order of the samples."""
    labels = np.array([0, 1] * 50)
    for order in (np.arange(100), np.argsort(labels, kind="stable")):
        assert measure(np.zeros((100, 1)), labels[order]).ece == 0
    rng = np.random.default_rng(0)
    logits = rng.integers(-3, 4, (200, 1)).astype(float)
    labels = rng.integers(0, 2, 200)
    order = rng.permutation(200)
    assert measure(logits, labels).ece == pytest.approx(measure(logits[order], labels[order]).ece)


def test_calibration_error_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 2, (300, 1)), rng.integers(0, 2, 300)
    probability = 1 / (1 + np.exp(-logits[:, 0]))
    confidence = np.maximum(probability, 1 - probability)
    right = (probability > 0.5) == labels
    ranked = sorted(zip(confidence.tolist(), right.tolist(), strict=True))
    parts = [ranked[20 * i : 20 * i + 20] for i in range(15)]
    gaps = [abs(sum(c for c, _ in part) - sum(r for _, r in part)) for part in parts]
    assert measure(logits, labels).ece == pytest.approx(sum(gaps) / 300)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_decisions_weigh_classes_by_their_training_shares(num_classes: int) -> None:
    """The class with the greatest p(class) / share, from one logit or one per class."""
    rng = np.random.default_rng(0)
    shares = np.array([15, 1, 4][:num_classes]) / sum([15, 1, 4][:num_classes])
    logits = rng.normal(0, 2, (200, 1 if num_classes == 2 else 3))
    ratio = np.exp(metrics.log_probabilities(logits)) / shares
    assert (metrics.predicted(metrics.weighed(logits, shares)) == ratio.argmax(axis=1)).all()
    assert (
        metrics.weighed(logits, np.full(num_classes, 1 / num_classes)).argsort() == logits.argsort()
    ).all()


def test_an_informative_model_is_not_at_chance_on_unequal_classes() -> None:
    """15:1 classes and an AUROC of 0.83: the most probable class is always the common one."""
    rng = np.random.default_rng(1)
    labels = (np.arange(32_000) % 16 == 0).astype(int)
    shares = np.array([15, 1]) / 16
    # Log-odds of two normal scores with equal variances, 1.35 apart.
    logits = (1.35 * (labels * 1.35 + rng.normal(size=32_000)) - 1.35**2 / 2 + np.log(1 / 15))[:, None]
    plain, weighed = measure(logits, labels), metrics.measure(logits, labels, shares)
    assert weighed.auroc == pytest.approx(0.83, abs=0.02)
    assert plain.balanced_accuracy < 0.55 < 0.7 < weighed.balanced_accuracy
    assert (weighed.accuracy, weighed.loss, weighed.ece) == (plain.accuracy, plain.loss, plain.ece)


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_class_without_training_samples_is_never_decided_for(absent: int) -> None:
    """However probable a model calls it; with one logit per class, and with one for two classes."""
    shares = np.full(3, 0.5)
    shares[absent] = 0
    logits = np.zeros((1, 3))
    logits[0, absent] = 100
    assert metrics.predicted(metrics.weighed(logits, shares))[0] != absent
    if absent < 2:
        one_logit = np.array([[100.0 if absent else -100.0]])
        assert metrics.predicted(metrics.weighed(one_logit, 2 * shares[:2]))[0] == 1 - absent
