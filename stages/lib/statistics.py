"""Intervals, tests and verdicts over seeds and scenes: arrays in, numbers out.

S = seeds;  N = samples of a split;  D = draws
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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

    def negated(self) -> Interval:
        """That of the quantity with the other sign."""
        low, high = (None if bound is None else -bound for bound in (self.high, self.low))
        return Interval(-self.mean, low, high)


def interval_over_seeds(values: Float[np.ndarray, "S"], confidence: float) -> Interval:
    """Student's t interval of the mean over seeds."""
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, None, None)
    reach = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - reach, mean + reach)


def beats_prior(values: Float[np.ndarray, "S"], resampled: Float[np.ndarray, "D"], num_scenes: int) -> bool:
    """Whether a model's loss lies below that of always predicting the class frequencies: the whole two-way interval.

    Args:
        values: each seed's loss less the prior's.
        resampled: their mean under each draw.
    """
    high = two_way_interval(values, resampled, num_scenes, 1 - ALPHA).high
    return high is not None and high < 0


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
class Difference:
    """One model's balanced accuracy less that of another, paired by seed and scene."""

    model: str
    against: str
    difference: float
    over_seeds: Interval  # Student's t, as if trained again
    two_way: Interval  # bootstrap, as if trained again and tested elsewhere
    probability: float  # P(model > other) over paired seeds; equal ones count half


@dataclass(frozen=True)
class Contrast(Difference):
    """A difference of a family of claims, with its tests and what they allow to say."""

    p: float | None  # sign flip; None with a single seed
    p_holm: float | None  # corrected for the family
    p_tied: float | None  # of not being equivalent (TOST)
    excludes_zero: bool  # whether the two-way interval at 1 - ALPHA does, whatever level is shown
    is_tied: bool

    def reversed(self) -> Contrast:
        """The other model against the first."""
        return replace(
            self,
            model=self.against,
            against=self.model,
            difference=-self.difference,
            over_seeds=self.over_seeds.negated(),
            two_way=self.two_way.negated(),
            probability=1 - self.probability,
        )

    @property
    def outcome(self) -> str:
        """What may be claimed: "better", "worse", "tied" or "not decided".

        A difference is claimed only when the corrected p is small and the two-way interval excludes zero:
        seeds tell whether another training would agree, scenes whether other test data would.
        """
        if self.p_holm is not None and self.p_holm < ALPHA and self.excludes_zero:
            return "better" if self.difference > 0 else "worse"
        return "tied" if self.is_tied else "not decided"


@dataclass(frozen=True)
class Accuracies:
    """A model's balanced accuracy by seed, as it is and resampled."""

    measured: Float[np.ndarray, "S"]
    resampled: Float[np.ndarray, "D S"]
    recalls: Float[np.ndarray, "S L"]  # by class; NaN for an absent one


def accuracies(
    logits: Float[np.ndarray, "S N K"],
    labels: Int[np.ndarray, "N"],
    scenes: Int[np.ndarray, "N"],
    draws: Draws,
) -> Accuracies:
    """Balanced accuracy of each seed's predictions; `scenes` is the index of each sample's scene."""
    recalls = np.stack([metrics.recalls(metrics.confusion(part, labels)) for part in logits])
    resampled = resample(logits, labels, scenes, draws, with_ranks=False)["balanced_accuracy"]
    return Accuracies(np.nanmean(recalls, axis=1), resampled, recalls)


@dataclass(frozen=True)
class _Pair:
    """A model's balanced accuracy less that of another, by seed and resampled."""

    model: str
    against: str
    values: Float[np.ndarray, "S"]
    resampled: Float[np.ndarray, "D"]
    num_scenes: int

    def interval(self, level: float) -> Interval:
        return two_way_interval(self.values, self.resampled, self.num_scenes, level)

    def difference(self, confidence: float) -> Difference:
        return Difference(
            model=self.model,
            against=self.against,
            difference=float(self.values.mean()),
            over_seeds=interval_over_seeds(self.values, confidence),
            two_way=self.interval(confidence),
            probability=float(((self.values > 0) + 0.5 * (self.values == 0)).mean()),
        )


def _pairs(accuracies: dict[str, Accuracies], names: list[tuple[str, str]], draws: Draws) -> list[_Pair]:
    return [
        _Pair(
            model,
            other,
            accuracies[model].measured - accuracies[other].measured,
            over_seeds(accuracies[model].resampled - accuracies[other].resampled, draws),
            draws.scenes.shape[1],
        )
        for model, other in names
    ]


def differences(
    accuracies: dict[str, Accuracies], pairs: list[tuple[str, str]], draws: Draws, confidence: float
) -> list[Difference]:
    """The first model of each pair less the second; nothing is tested, and so nothing can be claimed."""
    return [pair.difference(confidence) for pair in _pairs(accuracies, pairs, draws)]


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
    compared = _pairs(accuracies, pairs, draws)
    several_seeds = len(next(iter(accuracies.values())).measured) > 1
    p_values: list[tuple[float | None, float | None]] = [(None, None)] * len(compared)
    if several_seeds:
        raw = [sign_flip_p(pair.values) for pair in compared]
        p_values = list(zip(raw, holm(raw), strict=True))
    family = []
    for pair, (p, p_holm) in zip(compared, p_values, strict=True):
        p_tied = equivalence_p(pair.values, margin) if several_seeds else None
        family.append(
            Contrast(
                **vars(pair.difference(confidence)),
                p=p,
                p_holm=p_holm,
                p_tied=p_tied,
                excludes_zero=_excludes_zero(pair.interval(1 - ALPHA)),
                is_tied=(
                    p_tied is not None
                    and p_tied < ALPHA
                    and _lies_within(pair.interval(1 - 2 * ALPHA), margin)
                ),
            )
        )
    return family


def equivalence_p(differences: Float[np.ndarray, "S"], margin: float) -> float | None:
    """p value of two one-sided t tests (Schuirmann 1987): small when the mean difference is within the margin.

    None where all differences are equal: that leaves no spread to judge by.
    """
    if np.ptp(differences) == 0:
        return None
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

    The bootstrap's percentiles, moved to lie about the mean (a calibration error grows when samples are drawn
    twice) and drawn apart by the ratio of Student's to the normal quantile: plain ones are
    too narrow where a few seeds make most of the spread (Hesterberg 2015, arXiv 1411.5279). The degrees of
    freedom are those of a sum of two variances (Satterthwaite 1946).

    No bounds where no two draws differ, or there is but one scene: that shows no certainty but a lack of data.

    Args:
        resampled: the mean under each draw of seeds and scenes.
        limits: that the quantity can't leave.
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
    draws: Draws,
    confidence: float,
) -> Interval:
    """Two-way interval of a model's mean balanced accuracy.

    A class that is all right under every seed, or all wrong, is so in every draw, and would add nothing to the
    interval. It adds Wilson's (1927) for as many successes, or failures, as there are scenes with that class;
    distances add up in squares (MOVER, Zou and Donner 2008). No bounds where every sample is taken for the same
    class: such a model's balanced accuracy is what it is on any data.
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


def _excludes_zero(interval: Interval) -> bool:
    return interval.low is not None and interval.high is not None and (interval.low > 0 or interval.high < 0)
