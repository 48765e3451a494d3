"""Intervals, tests and verdicts over seeds and scenes: arrays in, numbers out.

S = seeds;  N = samples of a split
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats
from statsmodels.stats.multitest import multipletests

ALPHA = 0.05


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its interval; no bounds where one value leaves no spread to see."""

    mean: float
    low: float | None
    high: float | None


def interval_over_seeds(values: Float[np.ndarray, "S"], confidence: float) -> Interval:
    """Student's t interval of the mean over seeds."""
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, None, None)
    return _t_interval(mean, stats.sem(values), len(values) - 1, confidence)


def interval_over_scenes(values: Float[np.ndarray, "N"], scenes: list[str], confidence: float) -> Interval:
    """Student's t interval of the mean over samples, with samples of one scene taken as one cluster.

    Source: the cluster-robust variance of Liang and Zeger (1986) for a mean.
    """
    mean = float(values.mean())
    _, cluster = np.unique(scenes, return_inverse=True)
    num_clusters = int(cluster.max()) + 1
    if num_clusters < 2:
        return Interval(mean, None, None)
    sums = np.bincount(cluster, weights=values - mean)
    variance = num_clusters / (num_clusters - 1) * (sums**2).sum() / len(values) ** 2
    return _t_interval(mean, np.sqrt(variance), num_clusters - 1, confidence)


def _t_interval(mean: float, error: float, freedom: int, confidence: float) -> Interval:
    reach = float(stats.t.ppf(0.5 + confidence / 2, freedom) * error)
    return Interval(mean, mean - reach, mean + reach)


def beats_prior(
    losses: Float[np.ndarray, "S N"],
    prior_losses: Float[np.ndarray, "N"],
    scenes: list[str],
    confidence: float,
) -> bool:
    """Whether a model's loss lies below that of always predicting the class frequencies.

    True only when the interval of the difference over scenes, and with several seeds also the one
    over seeds, lies wholly below zero.
    """
    difference = losses - prior_losses
    over_scenes = interval_over_scenes(difference.mean(axis=0), scenes, confidence)
    over_seeds = interval_over_seeds(difference.mean(axis=1), confidence)
    bounds = [interval.high for interval in (over_scenes, over_seeds) if interval.high is not None]
    return bool(bounds) and max(bounds) < 0


def sign_flip_p(differences: Float[np.ndarray, "S"]) -> float:
    """Two-sided p value of a paired difference over seeds, by flipping signs; exact up to 20 seeds.

    The null hypothesis is that each difference is as likely as its negative. The least value that S
    seeds can give is 2 / 2^S.
    """
    if len(differences) < 2:
        return 1.0
    result = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=2**20,  # all flips of up to 20 seeds; a random sample of those of more
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def holm(p_values: list[float]) -> list[float]:
    """p values corrected for their number by Holm's method."""
    if not p_values:
        return []
    return multipletests(p_values, method="holm")[1].tolist()


def seeds_needed(num_contrasts: int) -> int:
    """The least number of seeds with which any contrast of a family this large can be significant."""
    seeds = 2
    while 2 / 2**seeds * num_contrasts >= ALPHA:
        seeds += 1
    return seeds


@dataclass(frozen=True)
class Contrast:
    """One model against the reference: difference of losses, paired by seed and sample."""

    model: str
    reference: str
    over_seeds: Interval
    over_scenes: Interval
    p: float | None  # None with a single seed
    p_holm: float | None

    @property
    def decided(self) -> bool:
        """Whether the difference is claimed: the corrected p is small and both intervals exclude zero.

        Seeds tell whether another training would agree, scenes whether other test data would.
        """
        return (
            self.p_holm is not None
            and self.p_holm < ALPHA
            and _excludes_zero(self.over_seeds)
            and _excludes_zero(self.over_scenes)
        )


def contrasts(
    losses: dict[str, Float[np.ndarray, "S N"]], reference: str, scenes: list[str], confidence: float
) -> list[Contrast]:
    """Every other model against the reference, corrected as one family.

    Args:
        losses: of every sample under every seed, by model.
        scenes: of the N samples.
    """
    differences = {name: losses[name] - losses[reference] for name in losses if name != reference}
    raw = [sign_flip_p(difference.mean(axis=1)) for difference in differences.values()]
    several_seeds = len(losses[reference]) > 1
    return [
        Contrast(
            model=name,
            reference=reference,
            over_seeds=interval_over_seeds(difference.mean(axis=1), confidence),
            over_scenes=interval_over_scenes(difference.mean(axis=0), scenes, confidence),
            p=p if several_seeds else None,
            p_holm=corrected if several_seeds else None,
        )
        for (name, difference), p, corrected in zip(differences.items(), raw, holm(raw), strict=True)
    ]


def _excludes_zero(interval: Interval) -> bool:
    return interval.low is not None and interval.high is not None and (interval.low > 0 or interval.high < 0)
