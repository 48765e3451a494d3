"""Metrics and statistics, compared with values computed by hand or by an independent library."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
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
from stages.lib.statistics import bootstrap, intervals, significance
from stages.lib.statistics.bootstrap import BootstrapDraws
from stages.lib.statistics.intervals import Accuracies
from stages.lib.statistics.significance import Contrast


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
    measured = metrics.measure(logits, labels)
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
    measured = metrics.measure(logits, labels)
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
    logits = baselines.prior_logits(labels, 2, len(labels))
    assert metrics.measure(logits, labels).loss == pytest.approx(0.233, abs=0.0005)


def test_prior_is_finite_for_a_class_without_training_samples() -> None:
    logits = baselines.prior_logits(np.array([0, 1, 1]), 3, 2)
    assert np.isfinite(logits).all()
    assert metrics.predicted(logits).tolist() == [1, 1]


def test_return_count_predicts_classes_of_different_size() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    features = np.stack([100 + 50 * labels + rng.normal(0, 5, 200), rng.uniform(10, 20, 200)], axis=1)
    logits = baselines.return_count_logits(features, labels, features, 2)
    assert metrics.measure(logits, labels).balanced_accuracy > 0.95


def test_interval_over_seeds_is_students() -> None:
    values = np.array([0.9, 0.92, 0.95, 0.91])
    interval = intervals.interval_over_seeds(values, 0.95)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval() -> None:
    assert intervals.interval_over_seeds(np.array([0.9]), 0.95) == intervals.Interval(0.9, None, None)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_sign_flip_equals_enumeration(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.5, 1, count)
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=count)]
    expected = np.mean(np.abs(means) >= abs(differences.mean()) - 1e-12)
    assert significance.sign_flip_p(differences) == pytest.approx(expected)


def test_sign_flip_floor() -> None:
    assert significance.sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) == pytest.approx(2 / 64)
    assert significance.sign_flip_p(np.array([1.0])) == 1.0


def test_holm_by_hand() -> None:
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([]) == []


def test_five_contrasts_need_eight_seeds() -> None:
    assert significance.seeds_needed(5) == 8
    assert significance.seeds_needed(1) == 6


def simulated(
    gains: dict[str, float], *, num_seeds: int, num_scenes: int = 200, spread: float = 0.002, seed: int = 3
) -> tuple[dict[str, Accuracies], BootstrapDraws]:
    """Accuracies and draws of models that differ by `gains`, under seeds that differ by `spread`."""
    rng = np.random.default_rng(seed)
    draws = bootstrap.draw(num_seeds, num_scenes, 1000)
    weights = draws.scenes / draws.scenes.sum(axis=1, keepdims=True)
    easy = rng.normal(0.8, 0.05, num_scenes)
    found = {}
    for name, gain in gains.items():
        scores = easy + gain + rng.normal(0, 0.02, num_scenes) + rng.normal(0, spread, (num_seeds, 1))
        measured = scores.mean(axis=1)
        found[name] = Accuracies(measured, weights @ scores.T, measured[:, None])
    return found, draws


def family(gains: dict[str, float], **options: Any) -> dict[str, Contrast]:
    """Contrasts of every model with the first."""
    accuracies, draws = simulated(gains, **options)
    first, *others = gains
    contrasts = significance.contrast_family(
        accuracies, [(name, first) for name in others], draws, 0.95, 0.01
    )
    return {contrast.model: contrast for contrast in contrasts}


def test_a_claim_needs_enough_seeds() -> None:
    gains = {"a": 0.0, **dict.fromkeys("bcdef", -0.2)}
    assert {contrast.outcome for contrast in family(gains, num_seeds=4).values()} == {"not decided"}
    assert {contrast.outcome for contrast in family(gains, num_seeds=8).values()} == {"worse"}


def test_better_worse_and_tied() -> None:
    contrasts = family({"a": 0.0, "b": 0.1, "c": -0.1, "d": 0.0005}, num_seeds=10)
    assert {name: contrast.outcome for name, contrast in contrasts.items()} == {
        "b": "better",
        "c": "worse",
        "d": "tied",
    }
    assert contrasts["b"].probability == 1 and contrasts["c"].probability == 0
    assert contrasts["b"].difference == pytest.approx(0.1, abs=0.01)


def test_a_tie_needs_more_than_no_difference() -> None:
    """Seeds that differ by three points cannot show that models differ by less than one point."""
    contrasts = family({"a": 0.0, "b": 0.0}, num_seeds=6, spread=0.03)
    assert contrasts["b"].outcome == "not decided"


def test_a_claim_needs_more_than_one_scene() -> None:
    """Ten seeds agree, but the whole difference comes from one scene of six."""
    draws = bootstrap.draw(10, 6, 1000)
    labels, scenes = np.tile([0, 1], 12), np.repeat(np.arange(6), 4)
    right = np.ones((10, 24), bool)
    other = right.copy()
    other[:, :4] = False
    logits = {
        name: np.where(hits == (labels == 1), 1.0, -1.0)[..., None]
        for name, hits in (("a", right), ("b", other))
    }
    accuracies = {name: intervals.accuracies(part, labels, scenes, draws) for name, part in logits.items()}
    (contrast,) = significance.contrast_family(accuracies, [("b", "a")], draws, 0.95, 0.01)
    assert contrast.p_holm is not None and contrast.p_holm < 0.05
    assert contrast.outcome == "not decided"


def test_one_seed_gives_no_p_value() -> None:
    (contrast,) = family({"a": 0.0, "b": -0.3}, num_seeds=1).values()
    assert contrast.p is None and contrast.p_tied is None and contrast.outcome == "not decided"
    assert contrast.two_way.high is not None and contrast.two_way.high < 0, "scenes alone give an interval"


def test_equivalence_is_two_one_sided_tests() -> None:
    differences = np.array([0.002, -0.003, 0.004, 0.001, -0.002])
    below = stats.ttest_1samp(differences, -0.01, alternative="greater").pvalue
    above = stats.ttest_1samp(differences, 0.01, alternative="less").pvalue
    assert significance.equivalence_p(differences, 0.01) == pytest.approx(max(below, above))
    assert significance.equivalence_p(np.zeros(5), 0.01) is None


def test_no_error_gives_wilsons_interval() -> None:
    """20 scenes of one class and 10 of the other, all predicted correctly under every seed."""
    labels = np.array([0] * 20 + [1] * 10)
    scenes = np.arange(30)
    draws = bootstrap.draw(3, 30, 200)
    logits = np.tile(np.where(labels == 1, 5.0, -5.0)[:, None], (3, 1, 1))
    found = intervals.accuracies(logits, labels, scenes, draws)
    interval = intervals.interval_of_accuracy(found, labels, scenes, draws, 0.95)
    missed = [1 - stats.binomtest(n, n).proportion_ci(0.95, method="wilson").low for n in (20, 10)]
    # Each class has half the weight in the mean; errors add up in squares.
    expected = 1 - np.hypot(*missed) / 2
    assert (interval.low, interval.high) == (pytest.approx(expected), pytest.approx(1.0))


def test_a_small_class_without_an_error_widens_the_interval() -> None:
    """10 correct samples of the rare class give a wide interval, however many the other class has."""
    labels = np.array([0] * 150 + [1] * 10)
    draws = bootstrap.draw(3, 160, 500)
    logits = np.tile(np.where(labels == 1, 5.0, -5.0)[:, None], (3, 1, 1))
    logits[:, :3] = 5.0  # three errors in the common class
    found = intervals.accuracies(logits, labels, np.arange(160), draws)
    interval = intervals.interval_of_accuracy(found, labels, np.arange(160), draws, 0.95)
    rare = stats.binomtest(10, 10).proportion_ci(0.95, method="wilson").low
    assert interval.low is not None and interval.low < 1 - (1 - rare) / 2


def test_equally_confident_predictions_share_a_bin() -> None:
    """Equal probabilities are calibrated on balanced classes, in any order of the samples."""
    labels = np.array([0, 1] * 50)
    for order in (np.arange(100), np.argsort(labels, kind="stable")):
        assert metrics.measure(np.zeros((100, 1)), labels[order]).ece == 0
    rng = np.random.default_rng(0)
    logits = rng.integers(-3, 4, (200, 1)).astype(float)
    labels = rng.integers(0, 2, 200)
    order = rng.permutation(200)
    assert metrics.measure(logits, labels).ece == pytest.approx(
        metrics.measure(logits[order], labels[order]).ece
    )


def test_calibration_error_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 2, (300, 1)), rng.integers(0, 2, 300)
    probability = 1 / (1 + np.exp(-logits[:, 0]))
    confidence = np.maximum(probability, 1 - probability)
    right = (probability > 0.5) == labels
    ranked = sorted(zip(confidence.tolist(), right.tolist(), strict=True))
    parts = [ranked[20 * i : 20 * i + 20] for i in range(15)]
    gaps = [abs(sum(c for c, _ in part) - sum(r for _, r in part)) for part in parts]
    assert metrics.measure(logits, labels).ece == pytest.approx(sum(gaps) / 300)


def test_seeds_share_of_the_uncertainty() -> None:
    for spread, share in ((0.1, 1.0), (0.00001, 0.0)):
        accuracies, draws = simulated({"a": 0.0}, num_seeds=10, spread=spread)
        resampled = bootstrap.over_seeds(accuracies["a"].resampled, draws)
        assert intervals.seed_share(accuracies["a"].measured, resampled) == pytest.approx(share, abs=0.1)


def test_few_seeds_that_differ_get_students_interval() -> None:
    """With all the spread in four seeds, the two-way interval is about Student's over these seeds."""
    accuracies, draws = simulated({"a": 0.0}, num_seeds=4, spread=0.1)
    found = accuracies["a"].measured
    student = intervals.interval_over_seeds(found, 0.95)
    two_way = intervals.two_way_interval(
        found, bootstrap.over_seeds(accuracies["a"].resampled, draws), 200, 0.95
    )
    assert student.high is not None and two_way.high is not None and two_way.low is not None
    assert two_way.high - two_way.low == pytest.approx(2 * (student.high - student.mean), rel=0.15)
    clipped = intervals.two_way_interval(found, np.linspace(0.5, 1, 100), 200, 0.95, (0.0, 0.9))
    assert clipped.high == 0.9


def test_beating_the_prior_needs_more_than_a_lower_mean() -> None:
    rng = np.random.default_rng(4)
    draws = bootstrap.draw(3, 100, 500)
    weights = draws.scenes / draws.scenes.sum(axis=1, keepdims=True)

    def beats(lower_by: float, spread: float) -> bool:
        losses = rng.normal(-lower_by, spread, (3, 100))
        means = bootstrap.over_seeds(weights @ losses.T, draws)
        return significance.beats_prior(losses.mean(axis=1), means, 100)

    assert beats(0.3, 0.1)
    assert not beats(0.001, 0.5)
    assert not beats(0.0, 0.0)


def test_a_reversed_contrast_has_the_opposite_outcome() -> None:
    accuracies, draws = simulated({"a": 0.0, "b": 0.1}, num_seeds=10)
    (contrast,) = significance.contrast_family(accuracies, [("b", "a")], draws, 0.95, 0.01)
    (expected,) = significance.contrast_family(accuracies, [("a", "b")], draws, 0.95, 0.01)
    other = contrast.reversed()
    assert contrast.outcome == "better" and other.outcome == "worse"
    assert (other.model, other.against, other.probability) == ("a", "b", expected.probability)
    assert other.difference == pytest.approx(expected.difference)
    assert other.two_way.low == pytest.approx(expected.two_way.low, rel=1e-6)
