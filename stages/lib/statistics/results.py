"""What the statistics find: dataclasses alone, so that who reads them imports no library for computing them."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_SEEDS = 3  # that a claim takes: two leave one degree of freedom


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its interval; no bounds where one value leaves no spread to see."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Plan:
    """What more it would take to decide a difference: either of the two; None where it alone cannot."""

    seeds: int | None
    scenes: int | None


@dataclass(frozen=True)
class Difference:
    """One model's balanced accuracy less that of another, paired by seed and scene.

    What describes its uncertainty is None with one seed, with one scene, and where no two values differ.
    """

    model: str
    against: str
    difference: float
    interval: tuple[float, float] | None  # over seeds and scenes
    se: float | None  # standard error
    df: float | None  # degrees of freedom
    p: float | None  # two-sided, not corrected; None also with fewer than three seeds
    seed_share: float | None  # of the variance, that comes from the seeds
    tied_within: float | None  # the smallest margin that holds the 90 % interval


@dataclass(frozen=True)
class Contrast(Difference):
    """A difference of a family of claims: tested, corrected, and with what may be said of it."""

    p_holm: float | None  # corrected for the family by Holm's method
    outcome: str  # "better", "worse", "tied" or "not decided"
    plan: Plan | None  # what would decide it, where it is not decided
