"""Confidence intervals over seeds and scenes: arrays in, numbers out.

S = seeds;  N = samples of a split;  D = draws
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from stages.lib.statistics.bootstrap import BootstrapDraws, over_seeds
from stages.lib.statistics.results import Interval


def interval_over_seeds(values: Float[np.ndarray, "S"], confidence: float) -> Interval:
    """Student's t interval of the mean over seeds."""
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, None, None)
    reach = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - reach, mean + reach)


@dataclass(frozen=True)
class Accuracies:
    """A model's balanced accuracy by seed, as it is and resampled."""

    measured: Float[np.ndarray, "S"]
    resampled: Float[np.ndarray, "D S"]
    recalls: Float[np.ndarray, "S L"]  # by class; NaN for an absent one


def two_way_interval(
    values: Float[np.ndarray, "S"],
    resampled: Float[np.ndarray, "D"],
    num_scenes: int,
    confidence: float,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Interval of a mean over seeds, with other seeds and other test scenes.

    The bootstrap's percentiles, shifted to the mean (a calibration error grows when samples are drawn
    twice) and widened by the ratio of Student's to the normal quantile: plain ones are
    too narrow where a few seeds make most of the spread (Hesterberg 2015, arXiv 1411.5279). The degrees of
    freedom are those of a sum of two variances (Satterthwaite 1946).

    No bounds where no two draws differ, or where there is one scene only: this shows a lack of data, not certainty.

    Args:
        resampled: the mean under each draw of seeds and scenes.
        limits: of the quantity's range.
    """
    mean = float(values.mean())
    defined = resampled[~np.isnan(resampled)]
    if num_scenes < 2 or len(defined) == 0 or np.ptp(defined) == 0:
        return Interval(mean, None, None)
    share = seed_share(values, defined)
    unsureness = share**2 / max(len(values) - 1, 1) + (1 - share) ** 2 / max(num_scenes - 1, 1)
    upper = 0.5 + confidence / 2
    stretch = stats.t.ppf(upper, 1 / unsureness) / stats.norm.ppf(upper)
    low, middle, high = np.quantile(defined, [1 - upper, 0.5, upper])
    bounds = mean + stretch * (np.array([low, high]) - middle)
    return Interval(mean, *np.clip(bounds, *limits).tolist())


def seed_share(values: Float[np.ndarray, "S"], resampled: Float[np.ndarray, "D"]) -> float:
    """How much of the uncertainty of a mean over seeds comes from the seeds: 0 to 1."""
    if len(values) < 2 or np.ptp(resampled) == 0:
        return 0.0
    return float(min(1.0, values.var(ddof=1) / len(values) / resampled.var()))


def interval_of_accuracy(
    found: Accuracies,
    labels: Int[np.ndarray, "N"],
    scenes: Int[np.ndarray, "N"],
    draws: BootstrapDraws,
    confidence: float,
) -> Interval:
    """Two-way interval of a model's mean balanced accuracy.

    If every seed predicts all samples of a class correctly, or none, so does every draw, and the bootstrap would add
    nothing for this class. It adds Wilson's interval (1927) for as many successes, or failures, as there are scenes
    with that class; distances add up in squares (MOVER, Zou and Donner 2008). No bounds where every sample gets the
    same class: such a model has this balanced accuracy on any data.
    """
    mean, num_scenes = float(found.measured.mean()), draws.scenes.shape[1]
    two_way = two_way_interval(
        found.measured, over_seeds(found.resampled, draws), num_scenes, confidence, (0.0, 1.0)
    )
    present = np.unique(labels)
    constant = [
        label
        for label in present
        if found.recalls[0, label] in (0, 1) and not np.ptp(found.recalls[:, label])
    ]
    if num_scenes < 2 or not constant:
        return two_way
    if len(constant) == len(present) and found.recalls[0, constant].sum() == 1:
        return Interval(mean, None, None)
    below = [0.0 if two_way.low is None else mean - two_way.low]
    above = [0.0 if two_way.high is None else two_way.high - mean]
    for label in constant:
        recall = float(found.recalls[0, label])
        wilson = interval_of_share(recall, len(np.unique(scenes[labels == label])), confidence)
        below.append((recall - (wilson.low or 0.0)) / len(present))
        above.append(((wilson.high or 0.0) - recall) / len(present))
    return Interval(
        mean, max(0.0, mean - float(np.linalg.norm(below))), min(1.0, mean + float(np.linalg.norm(above)))
    )


def interval_of_share(share: float, count: int, confidence: float) -> Interval:
    """Wilson's interval (1927) of a share of independent cases."""
    low, high = proportion_confint(share * count, count, 1 - confidence, method="wilson")
    return Interval(share, float(low), float(high))
