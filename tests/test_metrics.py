"""Metrics and statistics, against values worked out by hand or by an independent library."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, recall_score, roc_auc_score

from stages.lib import guessing, metrics, statistics


def test_binary_metrics_by_hand() -> None:
    # Probabilities of label 1: 0.8, 0.6, 0.4, 0.1
    logits = np.log(np.array([[4.0], [1.5], [2 / 3], [1 / 9]]))
    labels = np.array([1, 0, 1, 0])
    measured = metrics.measure(logits, labels)
    expected_loss = -(math.log(0.8) + math.log(0.4) + math.log(0.4) + math.log(0.9)) / 4
    assert measured.loss == pytest.approx(expected_loss)
    assert measured.accuracy == 0.5
    assert measured.balanced_accuracy == 0.5
    assert measured.f1 == pytest.approx(0.5)
    assert measured.auroc == pytest.approx(0.75)
    # Four bins of one sample: confidences 0.8, 0.6, 0.6, 0.9; right, wrong, wrong, right.
    assert measured.ece == pytest.approx((0.2 + 0.6 + 0.6 + 0.1) / 4)


def test_multiclass_metrics_by_hand() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]]))
    labels = np.array([0, 1, 2, 2])
    measured = metrics.measure(logits, labels)
    assert measured.loss == pytest.approx(
        -(math.log(0.7) + math.log(0.3) + math.log(0.8) + math.log(0.6)) / 4
    )
    assert measured.accuracy == 0.75
    assert measured.balanced_accuracy == pytest.approx(2 / 3)
    assert measured.f1 == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert measured.auroc == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(12))
def test_metrics_equal_scikit_learns(seed: int) -> None:
    """On random predictions of two to five classes, some of them absent or never predicted, with equal scores."""
    rng = np.random.default_rng(seed)
    num_classes = 2 + seed % 4
    labels = rng.integers(0, num_classes - (seed % 3 == 2), 60)
    logits = np.round(rng.normal(size=(60, 1 if num_classes == 2 else num_classes)), 1)
    measured = metrics.measure(logits, labels)
    log_probability, guess = metrics.log_probabilities(logits), metrics.predicted(logits)
    occurring = np.unique(labels)
    assert log_probability == pytest.approx(log_softmax(log_probability, axis=1))
    assert measured.loss == pytest.approx(
        log_loss(labels, np.exp(log_probability), labels=range(num_classes))
    )
    assert measured.accuracy == pytest.approx(accuracy_score(labels, guess))
    recalls = recall_score(labels, guess, labels=occurring, average=None, zero_division=0)
    assert measured.balanced_accuracy == pytest.approx(recalls.mean())
    f1 = f1_score(labels, guess, labels=occurring, average="macro", zero_division=0)
    assert measured.f1 == pytest.approx(f1)
    expected = confusion_matrix(labels, guess, labels=range(num_classes))
    assert (metrics.confusion(logits, labels) == expected).all()
    if len(occurring) > 1:
        scores = log_probability - np.log1p(-np.exp(log_probability)) if num_classes == 2 else log_probability
        ranked = [1] if num_classes == 2 else occurring
        areas = [roc_auc_score(labels == label, scores[:, label]) for label in ranked]
        assert measured.auroc == pytest.approx(np.mean(areas))


def test_imbalance_shows_in_balanced_accuracy_only() -> None:
    labels = np.array([0] * 9 + [1])
    measured = metrics.measure(np.full((10, 1), -3.0), labels)
    assert measured.accuracy == 0.9
    assert measured.balanced_accuracy == 0.5


def test_auroc_is_not_defined_for_one_class() -> None:
    assert metrics.measure(np.zeros((3, 1)), np.array([1, 1, 1])).auroc is None


def test_extreme_logits_stay_finite() -> None:
    measured = metrics.measure(np.array([[800.0], [-800.0]]), np.array([0, 0]))
    assert measured.loss == pytest.approx(400.0)


def test_prior_of_the_notebooks_data_has_the_known_entropy() -> None:
    labels = np.array([0] * 1009 + [1] * 67)
    logits = guessing.prior_logits(labels, 2, len(labels))
    assert metrics.measure(logits, labels).loss == pytest.approx(0.233, abs=0.0005)


def test_prior_survives_a_class_that_training_never_saw() -> None:
    logits = guessing.prior_logits(np.array([0, 1, 1]), 3, 2)
    assert np.isfinite(logits).all()
    assert metrics.predicted(logits).tolist() == [1, 1]


def test_return_count_reads_a_class_off_the_size() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    features = np.stack([100 + 50 * labels + rng.normal(0, 5, 200), rng.uniform(10, 20, 200)], axis=1)
    logits = guessing.return_count_logits(features, labels, features, 2)
    assert metrics.measure(logits, labels).balanced_accuracy > 0.95


def test_interval_over_seeds_is_students() -> None:
    values = np.array([0.9, 0.92, 0.95, 0.91])
    interval = statistics.interval_over_seeds(values, 0.95)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval() -> None:
    assert statistics.interval_over_seeds(np.array([0.9]), 0.95) == statistics.Interval(0.9, None, None)


def test_interval_over_single_scenes_is_students_too() -> None:
    values = np.random.default_rng(1).normal(size=12)
    interval = statistics.interval_over_scenes(values, [str(i) for i in range(12)], 0.95)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_copies_of_a_scene_add_no_certainty() -> None:
    values = np.random.default_rng(2).normal(size=10)
    scenes = [str(i) for i in range(10)]
    single = statistics.interval_over_scenes(values, scenes, 0.95)
    tripled = statistics.interval_over_scenes(np.repeat(values, 3), list(np.repeat(scenes, 3)), 0.95)
    assert (tripled.low, tripled.high) == pytest.approx((single.low, single.high))


@pytest.mark.parametrize("count", [2, 3, 6])
def test_sign_flip_equals_enumeration(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.5, 1, count)
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=count)]
    expected = np.mean(np.abs(means) >= abs(differences.mean()) - 1e-12)
    assert statistics.sign_flip_p(differences) == pytest.approx(expected)


def test_sign_flip_floor() -> None:
    assert statistics.sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) == pytest.approx(2 / 64)
    assert statistics.sign_flip_p(np.array([1.0])) == 1.0


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([]) == []


def test_five_contrasts_need_eight_seeds() -> None:
    assert statistics.seeds_needed(5) == 8
    assert statistics.seeds_needed(1) == 6


def test_a_claim_needs_enough_seeds() -> None:
    rng = np.random.default_rng(3)
    for count, decided in ((4, False), (8, True)):
        base = rng.normal(0.5, 0.001, (count, 30))
        losses = {"a": base, **{name: base + 0.2 + rng.normal(0, 0.001, (count, 30)) for name in "bcdef"}}
        scenes = [str(i) for i in range(30)]
        assert {c.decided for c in statistics.contrasts(losses, "a", scenes, 0.95)} == {decided}


def test_a_claim_needs_more_than_one_lucky_scene() -> None:
    """Ten seeds agree, but all of the difference comes from one scene of six."""
    base = np.random.default_rng(5).normal(0.5, 0.001, (10, 6))
    other = base.copy()
    other[:, 0] += 2.0
    (contrast,) = statistics.contrasts({"a": base, "b": other}, "a", list("uvwxyz"), 0.95)
    assert contrast.p_holm is not None and contrast.p_holm < 0.05
    assert contrast.over_seeds.low is not None and contrast.over_seeds.low > 0
    assert not contrast.decided


def test_one_seed_gives_no_p_value() -> None:
    losses = {"a": np.zeros((1, 4)), "b": np.ones((1, 4))}
    (contrast,) = statistics.contrasts(losses, "a", list("wxyz"), 0.95)
    assert contrast.p is None and not contrast.decided


def test_beating_the_prior_takes_more_than_a_lower_mean() -> None:
    rng = np.random.default_rng(4)
    scenes = [str(i) for i in range(100)]
    prior = np.full(100, 0.693)
    clearly = prior - 0.3 + rng.normal(0, 0.1, (3, 100))
    barely = prior - 0.001 + rng.normal(0, 0.5, (3, 100))
    assert statistics.beats_prior(clearly, prior, scenes, 0.95)
    assert not statistics.beats_prior(barely, prior, scenes, 0.95)
    assert not statistics.beats_prior(np.tile(prior, (3, 1)), prior, scenes, 0.95)
