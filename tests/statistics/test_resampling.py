"""The two-way bootstrap: against plain metrics, against plain loops, and in its spread."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from stages.lib.evaluation import metrics
from stages.lib.evaluation.metrics import Metrics
from stages.lib.statistics import bootstrap
from stages.lib.statistics.bootstrap import BootstrapDraws

EQUAL = {count: np.full(count, 1 / count) for count in (2, 3)}  # shares of the classes
NAMES = {field.name for field in fields(Metrics)}


def made_up(num_classes: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of three seeds, labels and scenes of 90 samples."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, 90)
    shape = (3, 90, 1 if num_classes == 2 else num_classes)
    logits = rng.normal(size=shape)
    if num_classes == 2:
        logits[..., 0] += labels - 0.5
    else:
        logits += np.eye(num_classes)[labels]
    return np.round(logits, 1), labels, np.arange(90) // 3  # rounded, so that some scores are equal


@pytest.mark.parametrize("num_classes", [2, 3])
def test_every_scene_once_gives_the_metrics_themselves(num_classes: int) -> None:
    logits, labels, scenes = made_up(num_classes)
    shares = np.array([0.8, 0.15, 0.05][:num_classes])
    once = BootstrapDraws(np.ones((1, 3), np.uint8), np.ones((1, 30), np.uint8))
    resampled = bootstrap.resample(logits, labels, scenes, once, shares)
    assert set(resampled) == NAMES
    for place, part in enumerate(logits):
        for name, value in vars(metrics.measure(part, labels, shares)).items():
            assert resampled[name][0, place] == pytest.approx(value), name


@pytest.mark.parametrize("num_classes", [2, 3])
def test_draws_equal_repeated_samples(num_classes: int) -> None:
    """A scene drawn twice counts as its samples written down twice."""
    logits, labels, scenes = made_up(num_classes, seed=1)
    draws = bootstrap.draw(3, 30, 5)
    resampled = bootstrap.resample(logits, labels, scenes, draws, EQUAL[num_classes])
    for number, counts in enumerate(draws.scenes):
        rows = np.repeat(np.arange(90), counts[scenes])
        for place, part in enumerate(logits):
            log_probability, guess = metrics.log_probabilities(part[rows]), metrics.predicted(part[rows])
            truth = labels[rows]
            expected = {
                "loss": metrics.sample_losses(part[rows], truth).mean(),
                "accuracy": (guess == truth).mean(),
                "balanced_accuracy": balanced_accuracy_score(truth, guess),
                "f1": f1_score(truth, guess, average="macro", labels=np.unique(truth)),
            }
            classes = metrics.ranked_classes(truth, num_classes)
            for name, area in {"auroc": roc_auc_score, "average_precision": average_precision_score}.items():
                expected[name] = np.mean(
                    [area(truth == c, metrics.ranking_score(log_probability, c)) for c in classes]
                )
            for name, value in expected.items():
                assert resampled[name][number, place] == pytest.approx(value), name


def test_spread_of_a_mean_is_that_of_the_formula() -> None:
    """Seeds and scenes that add up: the variance is that of the one mean plus that of the other."""
    rng = np.random.default_rng(2)
    num_seeds, num_scenes = 4, 40
    of_seed, of_scene = rng.normal(size=num_seeds), rng.normal(size=num_scenes)
    draws = bootstrap.draw(num_seeds, num_scenes, 20_000)
    values = draws.scenes @ of_scene / draws.scenes.sum(axis=1)
    resampled = bootstrap.over_seeds(values[:, None] + of_seed, draws)
    expected = of_seed.var(ddof=1) / num_seeds + of_scene.var(ddof=1) / num_scenes
    assert resampled.var() == pytest.approx(expected, rel=0.03)


def test_one_scene_leaves_the_seeds() -> None:
    logits, labels, _ = made_up(2)
    draws = bootstrap.draw(3, 1, 100)
    resampled = bootstrap.resample(logits, labels, np.zeros(90, int), draws, EQUAL[2])["balanced_accuracy"]
    assert (resampled == resampled[0]).all()
    assert np.ptp(bootstrap.over_seeds(resampled, draws)) > 0


def test_a_class_that_a_draw_lacks_is_left_out() -> None:
    """Two scenes, one class each: each draw holds one of them."""
    logits = np.array([[[3.0], [-1.0]]])
    draws = bootstrap.draw(1, 2, 50)
    resampled = bootstrap.resample(logits, np.array([1, 0]), np.array([0, 1]), draws, EQUAL[2])
    assert (resampled["balanced_accuracy"] == 1).all()
    assert np.isnan(resampled["auroc"]).all()


def test_one_class_leaves_ranks_undefined() -> None:
    logits, _, scenes = made_up(2)
    resampled = bootstrap.resample(logits, np.ones(90, int), scenes, bootstrap.draw(3, 30, 10), EQUAL[2])
    assert set(resampled) == NAMES - {"auroc", "average_precision"}


def test_draws_repeat() -> None:
    first, again = bootstrap.draw(5, 50, 100), bootstrap.draw(5, 50, 100)
    assert (first.seeds == again.seeds).all() and (first.scenes == again.scenes).all()
    assert (first.scenes.sum(axis=1) == 49).all()
