"""Error rates of the report's claims and intervals, on simulated results with known true accuracies.

    python benchmarks/claims.py [--json FILE] [--repetitions 300] [--draws 2000]

Each repetition simulates which test samples two models predict correctly under each seed, and applies the
functions of the report to them. A prediction is correct when a normal variable is positive: the sum of effects
of the seed, of the scene, of the sample, and a residual. Their variances are those that `--fit` finds in the
default run's predictions, or are dominated by seeds or scenes.

    false claims   two names for one model: how often "better" or "worse" is claimed
    power          a true difference of three points of balanced accuracy: how often it is found, among five such
                   contrasts as in the default report, and alone
    coverage       how often the 95 % interval of a balanced accuracy contains the true one

Takes about four minutes.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from scipy.optimize import brentq
from tabulate import tabulate

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # so that `python benchmarks/claims.py` works as well
    sys.path.insert(0, str(ROOT))

from stages.lib.core import console
from stages.lib.evaluation import predictions
from stages.lib.statistics import bootstrap, intervals, significance
from stages.lib.statistics.intervals import Accuracies

CONFIDENCE = 0.95
MARGIN = 0.01
SCENES = 245  # of two groups, one of either class: the default run's test split
ACCURACY = 0.9
SEEDS = (3, 4, 6, 10)
CLAIM_SEEDS = (6, 8, 10)
FAMILY = 5  # contrasts, as in the default report
SHARED = 0.85  # share of the effects of scenes and samples that all models have in common


@dataclass(frozen=True)
class Variances:
    """Shares of the variance that decides whether a prediction is correct; the rest is the residual's."""

    seed: float  # common to all samples under a seed
    scene: float  # common to a scene's samples, under every seed
    sample: float  # a sample's own, under every seed


REGIMES = {
    # Results of `--fit`, mean over the models; but the seeds' share is that of the model whose accuracies differ most
    # between seeds, by 1.6 points in standard deviation.
    "default": Variances(seed=0.005, scene=0.14, sample=0.73),
    "seeds dominate": Variances(seed=0.2, scene=0.05, sample=0.1),
    "scenes dominate": Variances(seed=0.002, scene=0.6, sample=0.1),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--draws", type=int, default=2000, help="of each bootstrap")
    parser.add_argument("--fit", nargs="+", metavar="MODEL", help="fit the variances to a run's predictions")
    given = parser.parse_args()
    if given.fit:
        for name in given.fit:
            print(name, fit(name))
        return
    gc.freeze()  # statsmodels runs the garbage collector at every correction; frozen objects cost no time
    figures = {
        "false_claims": {
            str(seeds): claimed(outcomes(seeds, 0.0, 1, 1.0, given.repetitions, given.draws))
            for seeds in (6, 10)
        },
        "power_3_points": {
            str(seeds): claimed(outcomes(seeds, 0.03, FAMILY, SHARED, given.repetitions, given.draws))
            for seeds in CLAIM_SEEDS
        },
        "power_3_points_alone": {
            str(seeds): claimed(outcomes(seeds, 0.03, 1, SHARED, given.repetitions, given.draws))
            for seeds in CLAIM_SEEDS
        },
        "coverage": {
            regime: {
                str(seeds): coverage(variances, seeds, given.repetitions, given.draws) for seeds in SEEDS
            }
            for regime, variances in REGIMES.items()
        },
    }
    print(table(figures))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def outcomes(
    num_seeds: int, gain: float, num_others: int, shared: float, repetitions: int, num_draws: int
) -> list[str]:
    """Outcomes of the first contrast of a family against a model whose true balanced accuracy is higher by `gain`.

    Args:
        num_others: number of contrasts in the family.
        shared: share of the effects of scenes and samples that all models have in common.
    """
    if num_seeds < significance.seeds_needed(num_others):
        return ["not decided"]  # for all results
    generator = np.random.default_rng(num_seeds)
    scenes, labels = groups()
    draws = bootstrap.draw(num_seeds, SCENES, num_draws)
    others = [f"other {number}" for number in range(num_others)]
    found = []
    for _ in console.track(
        range(repetitions),
        f"{num_seeds} seeds, {gain:.0%} apart, {num_others} at once",
        repetitions,
        "repetition",
    ):
        common = sample_effects(REGIMES["default"], scenes, generator)
        accuracies = {}
        for name in ("model", *others):
            own = sample_effects(REGIMES["default"], scenes, generator)
            effects = shared**0.5 * common + (1 - shared) ** 0.5 * own
            accuracy = ACCURACY if name == "model" else ACCURACY - gain
            hits = correct(REGIMES["default"], num_seeds, effects, accuracy, generator)
            accuracies[name] = measure(hits, labels, scenes, draws)
        family = significance.contrast_family(
            accuracies, [(other, "model") for other in others], draws, CONFIDENCE, MARGIN
        )
        found.append(family[0].outcome)
    return found


def claimed(outcomes: list[str]) -> float:
    """Share of repetitions in which one of the two models is claimed to be better."""
    return float(np.mean([outcome in ("better", "worse") for outcome in outcomes]))


def coverage(variances: Variances, num_seeds: int, repetitions: int, num_draws: int) -> float:
    """How often the two-way interval of a model's balanced accuracy contains the true one."""
    generator = np.random.default_rng(num_seeds)
    scenes, labels = groups()
    draws = bootstrap.draw(num_seeds, SCENES, num_draws)
    covered = 0
    for _ in range(repetitions):
        effects = sample_effects(variances, scenes, generator)
        hits = correct(variances, num_seeds, effects, ACCURACY, generator)
        interval = intervals.interval_of_accuracy(
            measure(hits, labels, scenes, draws), labels, scenes, draws, CONFIDENCE
        )
        covered += interval.low is not None and interval.low <= ACCURACY <= interval.high
    return covered / repetitions


def groups() -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "N"]]:
    """Scene and label of each test sample: one sample of each class in every scene."""
    return np.repeat(np.arange(SCENES), 2), np.tile([0, 1], SCENES)


def sample_effects(
    variances: Variances, scenes: Int[np.ndarray, "N"], generator: np.random.Generator
) -> Float[np.ndarray, "N"]:
    """The effects of scene and sample, which are the same for every seed."""
    scene_effects = generator.normal(size=scenes.max() + 1)[scenes]
    own = generator.normal(size=len(scenes))
    return variances.scene**0.5 * scene_effects + variances.sample**0.5 * own


def correct(
    variances: Variances,
    num_seeds: int,
    effects: Float[np.ndarray, "N"],
    accuracy: float,
    generator: np.random.Generator,
) -> Bool[np.ndarray, "S N"]:
    """Which samples each seed of a model with this true accuracy predicts correctly."""
    residual = 1 - variances.seed - variances.scene - variances.sample
    seed_effects = variances.seed**0.5 * generator.normal(size=(num_seeds, 1))
    own = residual**0.5 * generator.normal(size=(num_seeds, len(effects)))
    return stats.norm.ppf(accuracy) + seed_effects + effects + own > 0


def measure(
    hits: Bool[np.ndarray, "S N"],
    labels: Int[np.ndarray, "N"],
    scenes: Int[np.ndarray, "N"],
    draws: bootstrap.BootstrapDraws,
) -> Accuracies:
    logits = np.where(hits == (labels == 1), 1.0, -1.0)[..., None]
    return intervals.accuracies(logits, labels, scenes, draws)


def fit(name: str) -> Variances:
    """Variances that explain how often pairs of a model's test predictions are both correct.

    Each share is a tetrachoric correlation: that of two normal variables that are both positive as often as both
    predictions of one kind of pair are correct.
    """
    stored = predictions.read(name, "test")
    hits = np.stack([(logits[:, 0] > 0) == (stored.labels == 1) for logits in stored.logits]).astype(float)
    _, scenes = np.unique(stored.scenes, return_inverse=True)
    num_seeds = len(hits)
    by_scene = np.stack([np.bincount(scenes, weights=row) for row in hits])  # (S, G)
    seed_pairs = num_seeds * (num_seeds - 1)
    sizes = np.bincount(scenes)
    by_sample = hits.sum(axis=0)
    sample_pairs = (by_sample**2).sum() - hits.sum()
    scene_pairs = (by_scene.sum(axis=0) ** 2).sum() - (by_scene**2).sum() - sample_pairs
    across = (hits.sum(axis=1) ** 2).sum() - (by_scene**2).sum()
    shares = {
        "sample": sample_pairs / (seed_pairs * hits.shape[1]),
        "scene": scene_pairs / (seed_pairs * (sizes * (sizes - 1)).sum()),
        "seed": across / (num_seeds * (sizes.sum() ** 2 - (sizes**2).sum())),
    }
    same = {kind: max(0.0, tetrachoric(share, float(hits.mean()))) for kind, share in shares.items()}
    return Variances(same["seed"], same["scene"], max(0.0, same["sample"] - same["scene"]))


def tetrachoric(both: float, each: float) -> float:
    """Correlation of two normal variables that are each positive with probability `each`, and both with `both`."""
    threshold = stats.norm.ppf(each)

    def excess(correlation: float) -> float:
        covariance = [[1, correlation], [correlation, 1]]
        return float(stats.multivariate_normal([0, 0], covariance).cdf([threshold, threshold])) - both

    return float(brentq(excess, -0.99, 0.99))


def table(figures: dict[str, dict]) -> str:
    rows = {
        "same model twice": figures["false_claims"],
        "three points apart": figures["power_3_points_alone"],
        f"the same, one of {FAMILY} contrasts": figures["power_3_points"],
    }
    parts = [
        f"Claims at a true accuracy of {ACCURACY:.0%}, {SCENES} scenes of two samples, variances of the default "
        "run:\n\n"
        + tabulate(
            [[name, *(_share(row.get(str(seeds))) for seeds in CLAIM_SEEDS)] for name, row in rows.items()],
            ["Share of claims", *(f"{seeds} seeds" for seeds in CLAIM_SEEDS)],
            "github",
        ),
        "Share of 95 % intervals that contain the true accuracy:\n\n"
        + tabulate(
            [[regime, *(_share(row[str(s)]) for s in SEEDS)] for regime, row in figures["coverage"].items()],
            ["Variances", *(f"{seeds} seeds" for seeds in SEEDS)],
            "github",
        ),
    ]
    return "\n\n".join(parts)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


if __name__ == "__main__":
    main()
