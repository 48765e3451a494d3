"""Two-way analysis of variance over seeds and scenes: arrays in, numbers out.

Every seed of every model predicts every scene. Multi-reader multi-case studies have the same layout: seeds
are the readers, scenes the cases, models the modalities (Dorfman, Berbaum and Metz 1992; Obuchowski and
Rockette 1995; Hillis 2007). The analysis tells how far a mean would move with other seeds and other scenes.

S = seeds;  N = samples of a split;  G = scenes;  ... = independent repetitions
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from stages.lib.statistics.results import Plan

_POWER = 0.8  # with which a planned run should decide
_MOST_SEEDS = 50  # that a plan may add
_MOST_SCENES = 100  # times the scenes that there are


def scene_accuracies(
    predicted: Int[np.ndarray, "S N"], labels: Int[np.ndarray, "N"], scenes: Int[np.ndarray, "N"]
) -> Float[np.ndarray, "S G"]:
    """What each scene adds to balanced accuracy: rows average to the seed's balanced accuracy, exactly.

    The balanced accuracy is a mean of ratios, so a scene's value is its linear part (delete-one-scene
    jackknife without the loop).

    Args:
        predicted: class of each sample by each seed.
        scenes: index of each sample's scene.
    """
    num_scenes = int(scenes.max()) + 1
    classes = np.unique(labels)
    values = np.zeros((len(predicted), num_scenes))
    for label in classes:
        members = labels == label
        count = np.bincount(scenes[members], minlength=num_scenes)
        hits = np.stack(
            [np.bincount(scenes[members], row[members] == label, minlength=num_scenes) for row in predicted]
        )
        total = count.sum()
        recall = hits.sum(axis=1, keepdims=True) / total
        values += (hits - recall * count) * num_scenes / total + recall
    return values / len(classes)


@dataclass(frozen=True)
class Analysis:
    """A mean over seeds and scenes, and where its variance comes from; each field per repetition."""

    mean: Float[np.ndarray, "..."]
    se: Float[np.ndarray, "..."]  # standard error; 0 where no two values differ
    df: Float[np.ndarray, "..."]  # degrees of freedom
    seed_share: Float[np.ndarray, "..."]  # of the variance, that comes from the seeds: 0 to 1
    # Mean squares of the seeds, of the scenes, and of what is left over.
    mean_squares: Float[np.ndarray, "3 ..."]

    def reach(self, confidence: float) -> Float[np.ndarray, "..."]:
        """Half the width of the interval."""
        return np.asarray(stats.t.ppf(0.5 + confidence / 2, self.df) * self.se)

    @property
    def p(self) -> Float[np.ndarray, "..."]:
        """Two-sided p value of a mean of zero; NaN where no two values differ."""
        with np.errstate(invalid="ignore"):
            distance = np.abs(self.mean) / np.where(self.se > 0, self.se, np.nan)
        return np.asarray(2 * stats.t.sf(distance, self.df))


def analyse(values: Float[np.ndarray, "... S G"]) -> Analysis:
    """Analyses values by seed and scene, such as the differences of two models; at least two of either."""
    num_seeds, num_scenes = values.shape[-2:]
    mean = np.asarray(values.mean(axis=(-2, -1)))  # an array, also of a single repetition
    of_seeds, of_scenes = values.mean(axis=-1), values.mean(axis=-2)
    rest = values - of_seeds[..., None] - of_scenes[..., None, :] + mean[..., None, None]
    mean_squares = np.stack(
        [
            num_scenes * of_seeds.var(axis=-1, ddof=1),
            num_seeds * of_scenes.var(axis=-1, ddof=1),
            (rest**2).sum(axis=(-2, -1)) / ((num_seeds - 1) * (num_scenes - 1)),
        ]
    )
    se, df, share = _standard_error(
        np.asarray(np.maximum(mean_squares[0], mean_squares[2])),
        np.asarray(np.maximum(mean_squares[1] - mean_squares[2], 0.0)),
        num_seeds,
        num_scenes,
    )
    return Analysis(mean, se, df, share, mean_squares)


def _standard_error(
    of_seeds: Float[np.ndarray, "..."], of_scenes: Float[np.ndarray, "..."], num_seeds: int, num_scenes: int
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Standard error of the mean, its degrees of freedom, and the seeds' share of its variance.

    Satterthwaite's exponent of 2 makes too many false claims with three to five seeds; this one was chosen
    by simulation (`benchmarks/claims.py`).
    """
    total = of_seeds + of_scenes
    share = np.divide(of_seeds, total, out=np.ones_like(total), where=total > 0)
    exponent = 2 - 2 / (num_seeds - 1)
    unsureness = share**exponent / (num_seeds - 1) + (1 - share) ** exponent / (num_scenes - 1)
    se, df = np.sqrt(total / (num_seeds * num_scenes)), 1 / unsureness
    return np.asarray(se), np.asarray(df), share


def plan(values: Float[np.ndarray, "S G"], alpha: float, margin: float) -> Plan:
    """How many more seeds, or more test scenes, would decide with a probability of 0.8.

    It takes the measured mean and variances as the true ones, so it is a rough estimate.

    Args:
        alpha: level of the test, already divided for the family.
        margin: a difference is decided too when its 90 % interval lies within it.
    """
    num_seeds, num_scenes = values.shape
    found = analyse(values)
    of_seed = max(found.mean_squares[0] - found.mean_squares[2], 0.0) / num_scenes
    of_scene = max(found.mean_squares[1] - found.mean_squares[2], 0.0) / num_seeds
    distance = abs(float(found.mean))

    def decides(seeds: int, scenes: int) -> bool:
        se, df, _ = _standard_error(
            np.asarray(scenes * of_seed + found.mean_squares[2]), np.asarray(seeds * of_scene), seeds, scenes
        )
        differs = distance >= (stats.t.ppf(1 - alpha / 2, df) + stats.t.ppf(_POWER, df)) * se
        is_tied = margin - distance >= (stats.t.ppf(0.95, df) + stats.t.ppf(_POWER, df)) * se
        return bool(differs or is_tied)

    more_seeds = next(
        (more for more in range(1, _MOST_SEEDS + 1) if decides(num_seeds + more, num_scenes)), None
    )
    most = _MOST_SCENES * num_scenes
    if not decides(num_seeds, num_scenes + most):
        return Plan(more_seeds, None)
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(num_seeds, num_scenes + middle) else (middle, high)
    return Plan(more_seeds, _rounded_up(high))


def _rounded_up(count: int) -> int:
    """To two digits: an estimate carries no more."""
    step = 10 ** max(0, int(math.log10(count)) - 1)
    return math.ceil(count / step) * step
