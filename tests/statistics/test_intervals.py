"""Intervals of a single model's metrics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stages.lib.evaluation import metrics
from stages.lib.statistics import bootstrap, intervals, significance
from stages.lib.statistics.bootstrap import BootstrapDraws
from stages.lib.statistics.intervals import Accuracies
from stages.lib.statistics.results import Interval

EQUAL = np.array([0.5, 0.5])  # shares of the classes


def accuracies(
    logits: np.ndarray, labels: np.ndarray, scenes: np.ndarray, draws: BootstrapDraws
) -> Accuracies:
    """Balanced accuracy of each seed, measured and resampled."""
    recalls = np.stack([metrics.recalls(metrics.confusion(part, labels)) for part in logits])
    resampled = bootstrap.resample(logits, labels, scenes, draws, EQUAL)["balanced_accuracy"]
    return Accuracies(np.nanmean(recalls, axis=1), resampled, recalls)


def test_interval_over_seeds_is_students() -> None:
    values = np.array([0.9, 0.92, 0.95, 0.91])
    interval = intervals.interval_over_seeds(values, 0.95)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval() -> None:
    assert intervals.interval_over_seeds(np.array([0.9]), 0.95) == Interval(0.9, None, None)


def made_up(
    gains: dict[str, float], *, num_seeds: int, num_scenes: int = 200, spread: float = 0.002, seed: int = 3
) -> tuple[dict[str, Accuracies], BootstrapDraws]:
    """Models that are right more often by so much, under seeds that differ by so little."""
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


def test_all_right_gives_wilsons_interval() -> None:
    """20 scenes of a class and 10 of the other, all right under every seed."""
    labels = np.array([0] * 20 + [1] * 10)
    scenes = np.arange(30)
    draws = bootstrap.draw(3, 30, 200)
    logits = np.tile(np.where(labels == 1, 5.0, -5.0)[:, None], (3, 1, 1))
    found = accuracies(logits, labels, scenes, draws)
    interval = intervals.interval_of_accuracy(found, labels, scenes, draws, 0.95)
    missed = [1 - stats.binomtest(n, n).proportion_ci(0.95, method="wilson").low for n in (20, 10)]
    # Each class makes half of the mean; distances add up in squares.
    expected = 1 - np.hypot(*missed) / 2
    assert (interval.low, interval.high) == (pytest.approx(expected), pytest.approx(1.0))


def test_a_small_class_without_an_error_widens_the_interval() -> None:
    """10 of 10 of the rare class say little, however many samples the other has."""
    labels = np.array([0] * 150 + [1] * 10)
    draws = bootstrap.draw(3, 160, 500)
    logits = np.tile(np.where(labels == 1, 5.0, -5.0)[:, None], (3, 1, 1))
    logits[:, :3] = 5.0  # three of the common class are wrong
    found = accuracies(logits, labels, np.arange(160), draws)
    interval = intervals.interval_of_accuracy(found, labels, np.arange(160), draws, 0.95)
    rare = stats.binomtest(10, 10).proportion_ci(0.95, method="wilson").low
    assert interval.low is not None and interval.low < 1 - (1 - rare) / 2


def test_seeds_share_of_the_uncertainty() -> None:
    for spread, share in ((0.1, 1.0), (0.00001, 0.0)):
        accuracies, draws = made_up({"a": 0.0}, num_seeds=10, spread=spread)
        resampled = bootstrap.over_seeds(accuracies["a"].resampled, draws)
        assert intervals.seed_share(accuracies["a"].measured, resampled) == pytest.approx(share, abs=0.1)


def test_few_seeds_that_differ_get_students_interval() -> None:
    """With all the spread in four seeds, the two-way interval is about Student's over these seeds."""
    accuracies, draws = made_up({"a": 0.0}, num_seeds=4, spread=0.1)
    found = accuracies["a"].measured
    student = intervals.interval_over_seeds(found, 0.95)
    two_way = intervals.two_way_interval(
        found, bootstrap.over_seeds(accuracies["a"].resampled, draws), 200, 0.95
    )
    assert student.high is not None and two_way.high is not None and two_way.low is not None
    assert two_way.high - two_way.low == pytest.approx(2 * (student.high - student.mean), rel=0.15)
    clipped = intervals.two_way_interval(found, np.linspace(0.5, 1, 100), 200, 0.95, (0.0, 0.9))
    assert clipped.high == 0.9


def test_beating_the_prior_takes_more_than_a_lower_mean() -> None:
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
