"""Tests and outcomes of comparisons: arrays in, numbers out.

S = seeds;  N = samples of a split;  D = draws
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from stages.lib.statistics import intervals
from stages.lib.statistics.bootstrap import BootstrapDraws, over_seeds
from stages.lib.statistics.intervals import Accuracies, Interval

ALPHA = 0.05


def beats_prior(values: Float[np.ndarray, "S"], resampled: Float[np.ndarray, "D"], num_scenes: int) -> bool:
    """Whether a model's loss lies below that of always predicting the class frequencies: the whole two-way interval.

    Args:
        values: each seed's loss less the prior's.
        resampled: their mean under each draw.
    """
    high = intervals.two_way_interval(values, resampled, num_scenes, 1 - ALPHA).high
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
    outcome: str  # "better", "worse", "tied" or "not decided"

    def reversed(self) -> Contrast:
        """The other model against the first."""
        opposite = {"better": "worse", "worse": "better"}
        return replace(
            self,
            model=self.against,
            against=self.model,
            difference=-self.difference,
            over_seeds=self.over_seeds.negated(),
            two_way=self.two_way.negated(),
            probability=1 - self.probability,
            outcome=opposite.get(self.outcome, self.outcome),
        )


def outcome(difference: float, p_holm: float | None, excludes_zero: bool, is_tied: bool) -> str:
    """What may be claimed.

    A difference is claimed only when the corrected p is small and the two-way interval excludes zero:
    seeds tell whether another training would agree, scenes whether other test data would.
    """
    if p_holm is not None and p_holm < ALPHA and excludes_zero:
        return "better" if difference > 0 else "worse"
    return "tied" if is_tied else "not decided"


@dataclass(frozen=True)
class _Pair:
    """A model's balanced accuracy less that of another, by seed and resampled."""

    model: str
    against: str
    values: Float[np.ndarray, "S"]
    resampled: Float[np.ndarray, "D"]
    num_scenes: int

    def interval(self, level: float) -> Interval:
        return intervals.two_way_interval(self.values, self.resampled, self.num_scenes, level)

    def difference(self, confidence: float) -> Difference:
        return Difference(
            model=self.model,
            against=self.against,
            difference=float(self.values.mean()),
            over_seeds=intervals.interval_over_seeds(self.values, confidence),
            two_way=self.interval(confidence),
            probability=float(((self.values > 0) + 0.5 * (self.values == 0)).mean()),
        )


def _pairs(
    accuracies: dict[str, Accuracies], names: list[tuple[str, str]], draws: BootstrapDraws
) -> list[_Pair]:
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
    accuracies: dict[str, Accuracies], pairs: list[tuple[str, str]], draws: BootstrapDraws, confidence: float
) -> list[Difference]:
    """The first model of each pair less the second; nothing is tested, and so nothing can be claimed."""
    return [pair.difference(confidence) for pair in _pairs(accuracies, pairs, draws)]


def contrast_family(
    accuracies: dict[str, Accuracies],
    pairs: list[tuple[str, str]],
    draws: BootstrapDraws,
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
        difference = pair.difference(confidence)
        is_tied = p_tied is not None and p_tied < ALPHA and _lies_within(pair.interval(1 - 2 * ALPHA), margin)
        excludes_zero = _excludes_zero(pair.interval(1 - ALPHA))
        family.append(
            Contrast(
                **vars(difference),
                p=p,
                p_holm=p_holm,
                p_tied=p_tied,
                outcome=outcome(difference.difference, p_holm, excludes_zero, is_tied),
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


def _excludes_zero(interval: Interval) -> bool:
    return interval.low is not None and interval.high is not None and (interval.low > 0 or interval.high < 0)
