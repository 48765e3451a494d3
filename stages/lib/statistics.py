"""Intervals, tests and verdicts over seeds and scenes: arrays in, numbers out.

S = seeds;  N = samples of a split;  D = draws
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

from stages.lib import metrics
from stages.lib.resampling import Draws, over_seeds, resample

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
    """One model's balanced accuracy less that of another, paired by seed and scene."""

    model: str
    against: str
    difference: float
    over_seeds: Interval  # Student's t, as if trained again
    two_way: Interval  # bootstrap, as if trained again and tested elsewhere
    probability: float  # P(model > other) over paired seeds; equal ones count half
    p: float | None  # sign flip; None with a single seed
    p_holm: float | None  # corrected for the family
    p_tied: float | None  # of not being equivalent (TOST)
    is_tied: bool

    @property
    def outcome(self) -> str:
        """What may be claimed: "better", "worse", "tied" or "not decided".

        A difference is claimed only when the corrected p is small and the two-way interval excludes zero:
        seeds tell whether another training would agree, scenes whether other test data would.
        """
        if self.p_holm is not None and self.p_holm < ALPHA and _excludes_zero(self.two_way):
            return "better" if self.difference > 0 else "worse"
        return "tied" if self.is_tied else "not decided"


@dataclass(frozen=True)
class Accuracies:
    """A model's balanced accuracy by seed, as it is and resampled."""

    measured: Float[np.ndarray, "S"]
    resampled: Float[np.ndarray, "D S"]


def accuracies(
    logits: Float[np.ndarray, "S N K"],
    labels: Int[np.ndarray, "N"],
    scenes: Int[np.ndarray, "N"],
    draws: Draws,
) -> Accuracies:
    """Balanced accuracy of each seed's predictions; `scenes` is the index of each sample's scene."""
    measured = [metrics.measure(part, labels).balanced_accuracy for part in logits]
    return Accuracies(
        np.array(measured), resample(logits, labels, scenes, draws, with_ranks=False)["balanced_accuracy"]
    )


def contrast_family(
    accuracies: dict[str, Accuracies],
    pairs: list[tuple[str, str]],
    draws: Draws,
    confidence: float,
    margin: float,
) -> list[Contrast]:
    """The first model of each pair against the second, corrected as one family.

    Args:
        margin: differences smaller than this don't matter.
    """
    measured = [accuracies[model].measured - accuracies[other].measured for model, other in pairs]
    several_seeds = len(next(iter(accuracies.values())).measured) > 1
    raw = [sign_flip_p(differences) if several_seeds else None for differences in measured]
    corrected = holm(raw) if several_seeds else raw
    num_scenes = draws.scenes.shape[1]
    family = []
    for (model, other), differences, p, p_holm in zip(pairs, measured, raw, corrected, strict=True):
        resampled = over_seeds(accuracies[model].resampled - accuracies[other].resampled, draws)
        p_tied = equivalence_p(differences, margin) if several_seeds else None
        family.append(
            Contrast(
                model=model,
                against=other,
                difference=float(differences.mean()),
                over_seeds=interval_over_seeds(differences, confidence),
                two_way=two_way_interval(differences, resampled, num_scenes, confidence),
                probability=float(((differences > 0) + 0.5 * (differences == 0)).mean()),
                p=p,
                p_holm=p_holm,
                p_tied=p_tied,
                is_tied=(
                    p_tied is not None
                    and p_tied < ALPHA
                    and _lies_within(
                        two_way_interval(differences, resampled, num_scenes, 1 - 2 * ALPHA), margin
                    )
                ),
            )
        )
    return family


def equivalence_p(differences: Float[np.ndarray, "S"], margin: float) -> float:
    """p value of two one-sided t tests (Schuirmann 1987): small when the mean difference is within the margin."""
    if np.ptp(differences) == 0:  # no spread to divide by
        return 0.0 if abs(differences[0]) < margin else 1.0
    zeros = np.zeros_like(differences)
    return float(ttost_paired(differences, zeros, -margin, margin)[0])


def _lies_within(interval: Interval, margin: float) -> bool:
    """Both one-sided tests for other seeds and scenes, as one: the 90 % interval lies within the margin."""
    return (
        interval.low is not None
        and interval.high is not None
        and -margin < interval.low <= interval.high < margin
    )


def two_way_interval(
    values: Float[np.ndarray, "S"],
    resampled: Float[np.ndarray, "D"],
    num_scenes: int,
    confidence: float,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Interval of a mean over seeds, as if trained again and tested on other scenes.

    The bootstrap's percentiles, drawn apart by the ratio of Student's to the normal quantile: plain ones are
    too narrow where a few seeds make most of the spread (Hesterberg 2015, arXiv 1411.5279). The degrees of
    freedom are those of a sum of two variances (Satterthwaite 1946).

    No bounds where no two draws differ: that shows no certainty but a lack of data.

    Args:
        resampled: the mean under each draw of seeds and scenes.
        limits: that the quantity can't leave.
    """
    mean = float(values.mean())
    defined = resampled[~np.isnan(resampled)]
    if len(defined) == 0 or np.ptp(defined) == 0:
        return Interval(mean, None, None)
    share = seed_share(values, defined)
    unsureness = share**2 / max(len(values) - 1, 1) + (1 - share) ** 2 / max(num_scenes - 1, 1)
    upper = 0.5 + confidence / 2
    stretch = stats.t.ppf(upper, 1 / unsureness) / stats.norm.ppf(upper)
    low, middle, high = np.quantile(defined, [1 - upper, 0.5, upper])
    bounds = middle + stretch * (np.array([low, high]) - middle)
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
    draws: Draws,
    confidence: float,
) -> Interval:
    """Two-way interval of a model's mean balanced accuracy.

    Where all samples are right under every seed, or none, no draw differs: then it is the mean over classes
    of Wilson's interval (1927) for as many successes, or failures, as there are scenes with that class.
    """
    mean = float(found.measured.mean())
    if mean not in (0.0, 1.0) or np.ptp(found.measured):
        return two_way_interval(
            found.measured, over_seeds(found.resampled, draws), draws.scenes.shape[1], confidence, (0.0, 1.0)
        )
    counts = [len(np.unique(scenes[labels == label])) for label in np.unique(labels)]
    bounds = [proportion_confint(mean * count, count, 1 - confidence, method="wilson") for count in counts]
    low, high = np.mean(bounds, axis=0)
    return Interval(mean, float(low), float(high))


def _excludes_zero(interval: Interval) -> bool:
    return interval.low is not None and interval.high is not None and (interval.low > 0 or interval.high < 0)
