"""Differences between models, and what may be claimed about them: arrays in, numbers out.

S = seeds;  G = scenes;  D = draws
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jaxtyping import Float
from statsmodels.stats.multitest import multipletests

from stages.lib.statistics import intervals, two_way
from stages.lib.statistics.results import LEAST_SEEDS, Contrast, Difference

ALPHA = 0.05


def difference(model: str, against: str, values: Float[np.ndarray, "S G"], confidence: float) -> Difference:
    """Analyses the difference of two models.

    Args:
        values: the first model's value of each seed and scene less the second's.
    """
    mean = float(values.mean())
    unknown = Difference(model, against, mean, None, None, None, None, None, None)
    if min(values.shape) < 2:
        return unknown
    found = two_way.analyse(values)
    if found.se == 0:
        return unknown
    reach = float(found.reach(confidence))
    return Difference(
        model=model,
        against=against,
        difference=mean,
        interval=(mean - reach, mean + reach),
        se=float(found.se),
        df=float(found.df),
        p=float(found.p) if len(values) >= LEAST_SEEDS else None,
        seed_share=float(found.seed_share),
        tied_within=abs(mean) + float(found.reach(1 - 2 * ALPHA)),
    )


def family(
    values: dict[str, Float[np.ndarray, "S G"]],
    pairs: list[tuple[str, str]],
    confidence: float,
    margin: float,
    failed: Collection[str] = (),
) -> list[Contrast]:
    """The first model of each pair against the second, corrected as one family of claims.

    Args:
        values: by model, balanced accuracy of each seed and scene.
        margin: two models are tied when their difference is smaller than this.
        failed: models of which a seed did not train; nothing is claimed about them.
    """
    found = [difference(*pair, values[pair[0]] - values[pair[1]], confidence) for pair in pairs]
    tested = [part.p for part in found if part.p is not None]
    corrected = iter(holm(tested))
    contrasts = []
    for part in found:
        p_holm = None if part.p is None else next(corrected)
        withheld = bool({part.model, part.against} & set(failed))
        outcome = "not decided" if withheld else _outcome(part, p_holm, margin)
        plan = None
        if outcome == "not decided" and part.p is not None and not withheld:
            plan = two_way.plan(values[part.model] - values[part.against], ALPHA / len(tested), margin)
        contrasts.append(Contrast(**vars(part), p_holm=p_holm, outcome=outcome, plan=plan))
    return contrasts


def _outcome(part: Difference, p_holm: float | None, margin: float) -> str:
    if p_holm is None or part.tied_within is None:
        return "not decided"
    if p_holm < ALPHA:
        return "better" if part.difference > 0 else "worse"
    return "tied" if part.tied_within <= margin else "not decided"


def holm(p_values: list[float]) -> list[float]:
    """p values corrected for their number by Holm's method."""
    return multipletests(p_values, method="holm")[1].tolist() if p_values else []


def beats_prior(values: Float[np.ndarray, "S"], resampled: Float[np.ndarray, "D"], num_scenes: int) -> bool:
    """Whether a model's loss lies below that of always predicting the class frequencies: the whole interval.

    Args:
        values: each seed's loss less the prior's.
        resampled: their mean under each draw.
    """
    high = intervals.two_way_interval(values, resampled, num_scenes, 1 - ALPHA).high
    return high is not None and high < 0
