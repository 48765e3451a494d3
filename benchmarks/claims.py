"""How far the report's claims and intervals can be trusted: simulated results for which the truth is known.

    python benchmarks/claims.py [--json FILE] [--repetitions 1000]

Each repetition draws which test samples some models get right under each seed, and passes that to the analysis
that the report uses. A sample is right when a normal variable is above a limit: the sum of effects of the seed, the
scene and the sample, and a rest. A world says how large each of these effects is. `--fit MODEL ...` estimates them
from a run's predictions.

    false claims   models with the same true accuracy: share of families of five contrasts with a false claim
    power          a true difference of 3, 5 or 10 points in one of five contrasts: how often it is claimed
    coverage       how often the 95 % interval of a difference contains the true one
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from stages.lib.statistics import significance, two_way

CONFIDENCE = 0.95
ACCURACY = 0.9
SEEDS = (3, 4, 5, 6, 8)
FAMILY = 5  # contrasts
GAINS = (3, 5, 10)  # points
_CHUNK = 50  # repetitions at a time; bounds the memory


@dataclass(frozen=True)
class World:
    """Shares of the variance that decides whether a sample is right; what is left over is drawn each time.

    Args:
        seed: common to all samples under a seed of one model.
        scene, sample: common to all seeds; of these, `shared` is common to all models.
        rare: share of a scene's `size` samples that belong to the rare class.
        tails: degrees of freedom of the seeds' effects; infinite for normal ones.
        unequal: factor on the standard deviation of the first model's seeds.
        correlation: of two models' seed effects, from -1 to 1.
        chance: probability that a seed of a model is at chance.
        validation: scenes of a validation split on which the reference is chosen; 0: the first model.
    """

    seed: float = 0.005
    scene: float = 0.14
    sample: float = 0.73
    shared: float = 0.85
    num_scenes: int = 245
    size: int = 2
    rare: float = 0.5
    tails: float = np.inf
    unequal: float = 1.0
    correlation: float = 0.0
    chance: float = 0.0
    validation: int = 0


DEFAULT = World()  # what `--fit` finds in the default run
WORLDS = {
    "default": DEFAULT,
    "seeds dominate": World(seed=0.2, scene=0.05, sample=0.1),
    "scenes dominate": World(seed=0.002, scene=0.6, sample=0.1),
    "mixed": World(seed=0.05, scene=0.2, sample=0.3),
    "unequal seeds": replace(DEFAULT, unequal=3.0),
    "heavy tails": World(seed=0.05, scene=0.14, sample=0.5, tails=3.0),
    "a seed in six at chance": replace(DEFAULT, chance=1 / 6),
    "15:1": replace(DEFAULT, size=16, num_scenes=60, rare=1 / 16),
    "20 scenes": replace(DEFAULT, num_scenes=20),
    "50 scenes": replace(DEFAULT, num_scenes=50),
    "seeds opposed": World(seed=0.1, scene=0.05, sample=0.1, correlation=-0.5),
    "reference chosen on validation": replace(DEFAULT, validation=105),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--fit", nargs="+", metavar="MODEL", help="fit the variances to a run's predictions")
    given = parser.parse_args()
    if given.fit:
        for name in given.fit:
            print(name, fit(name))
        return
    figures: dict[str, dict] = {"false_claims": {}, "power": {}, "coverage": {}}
    cells = [(name, seeds) for name in WORLDS for seeds in SEEDS]
    for name, num_seeds in console.track(cells, "simulating", len(cells), "cell"):
        equal = simulate(WORLDS[name], num_seeds, 0.0, given.repetitions)
        figures["false_claims"].setdefault(name, {})[str(num_seeds)] = equal.any_claim
        figures["coverage"].setdefault(name, {})[str(num_seeds)] = equal.covered
        figures["power"].setdefault(name, {})[str(num_seeds)] = {
            str(points): simulate(WORLDS[name], num_seeds, points / 100, given.repetitions).first_claimed
            for points in GAINS
        }
    print(table(figures))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


@dataclass(frozen=True)
class Simulated:
    """Shares of the repetitions."""

    any_claim: float  # with a claim in the family
    first_claimed: float  # with the first contrast claimed, with the right sign
    covered: float  # of all contrasts, whose interval contains the true difference


def simulate(world: World, num_seeds: int, gain: float, repetitions: int) -> Simulated:
    """Analyses families of five contrasts with a reference.

    Args:
        gain: true balanced accuracy of all models less that of the first one.
    """
    generator = np.random.default_rng([num_seeds, round(1000 * gain), len(world.__dict__)])
    claims, first, covered = [], [], []
    for count in _chunks(repetitions):
        values, at_chance, order = draw(world, num_seeds, gain, count, generator)
        # The reference is the last of each repetition's order.
        values = np.take_along_axis(values, order[:, :, None, None], axis=1)
        at_chance = np.take_along_axis(at_chance, order, axis=1)
        found = two_way.analyse(values[:, :-1] - values[:, -1:])
        p = np.where(np.isnan(found.p), 1.0, found.p)
        claimed = holm(p) < significance.ALPHA
        claimed &= ~(at_chance[:, :-1] | at_chance[:, -1:])
        claims.append(claimed.any(axis=1))
        first.append(claimed[:, 0] & (found.mean[:, 0] < 0))
        truth = np.zeros(FAMILY)
        truth[0] = -gain
        covered.append(np.abs(found.mean - truth) <= found.reach(CONFIDENCE))
    return Simulated(*(float(np.concatenate(parts).mean()) for parts in (claims, first, covered)))


def holm(p: Float[np.ndarray, "R F"]) -> Float[np.ndarray, "R F"]:
    """Holm's correction in every row; a test compares it with that of the report."""
    order = p.argsort(axis=1)
    ranked = np.take_along_axis(p, order, axis=1) * np.arange(p.shape[1], 0, -1)
    corrected = np.minimum(np.maximum.accumulate(ranked, axis=1), 1.0)
    return np.take_along_axis(corrected, order.argsort(axis=1), axis=1)


def _chunks(repetitions: int) -> Iterator[int]:
    for start in range(0, repetitions, _CHUNK):
        yield min(_CHUNK, repetitions - start)


def draw(
    world: World, num_seeds: int, gain: float, count: int, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "R M S G"], Bool[np.ndarray, "R M"], Int[np.ndarray, "R M"]]:
    """Values by repetition, model, seed and scene; models with a failed seed; the order, reference last."""
    num_models, num_scenes = FAMILY + 1, world.num_scenes + world.validation
    num_rare = max(1, round(world.size * world.rare))
    labels = (np.arange(world.size) < num_rare).astype(int)  # of a scene's samples

    def effects(*shape: int) -> Float[np.ndarray, "..."]:
        """Effects of which a share is common to all models."""
        common = generator.standard_normal((count, 1, *shape), dtype=np.float32)
        own = generator.standard_normal((count, num_models, *shape), dtype=np.float32)
        return world.shared**0.5 * common + (1 - world.shared) ** 0.5 * own

    seeds = world.seed**0.5 * seed_effects(world, (count, num_models, num_seeds), generator)
    seeds[:, 0] *= world.unequal
    rest = max(0.0, 1 - world.seed - world.scene - world.sample)
    score = rest**0.5 * generator.standard_normal(
        (count, num_models, num_seeds, num_scenes, world.size), dtype=np.float32
    )
    score += seeds[..., None, None].astype(np.float32)
    score += (world.scene**0.5 * effects(1, num_scenes, 1)).astype(np.float32)
    score += (world.sample**0.5 * effects(1, num_scenes, world.size)).astype(np.float32)
    accuracy = np.full((num_models, 1, 1, 1), ACCURACY)
    accuracy[0] -= gain
    # With larger variances than the others', the first model's mean accuracy stays what it is.
    spread = np.ones((num_models, 1, 1, 1))
    spread[0] = (1 + world.seed * (world.unequal**2 - 1)) ** 0.5
    right = score + spread * stats.norm.ppf(accuracy) > 0
    fails = generator.random((count, num_models, num_seeds)) < world.chance
    if world.chance:  # such a seed takes every sample for the common class
        right = np.where(fails[..., None, None], labels == 0, right)
    by_class = np.stack([right[..., labels == label].mean(axis=-1) for label in (0, 1)])
    values = by_class.mean(axis=0)  # every scene holds all classes, in the same numbers
    order = np.tile(np.arange(num_models), (count, 1))
    if world.validation:
        chosen = values[..., world.num_scenes :].mean(axis=(-2, -1)).argmax(axis=1)
        # The first model stays among the contrasts where it has the true difference.
        chosen = np.where(chosen == 0, num_models - 1, chosen) if gain else chosen
        order[np.arange(count), chosen], order[:, -1] = num_models - 1, chosen
    near_chance = values[..., : world.num_scenes].mean(axis=-1) <= 0.6
    return values[..., : world.num_scenes], near_chance.any(axis=-1), order


def seed_effects(
    world: World, shape: tuple[int, int, int], generator: np.random.Generator
) -> Float[np.ndarray, "R M S"]:
    """Effects of variance 1 for every seed of every model."""
    if np.isinf(world.tails):
        own = generator.standard_normal(shape)
    else:
        own = generator.standard_t(world.tails, shape) / (world.tails / (world.tails - 2)) ** 0.5
    if world.correlation:  # of every other model with the reference, which is the last
        reference = own[:, -1:]
        rest = (1 - world.correlation**2) ** 0.5
        own[:, :-1] = world.correlation * reference + rest * own[:, :-1]
    return own


def fit(name: str) -> World:
    """Variances under which samples are right together as often as a model's test predictions are.

    Each share is a tetrachoric correlation: that of two normal variables which are positive together as
    often as two samples of one kind of pair are right together.
    """
    found = predictions.read(name, "test")
    hits = np.stack([(logits[:, 0] > 0) == (found.labels == 1) for logits in found.logits]).astype(float)
    _, scenes = np.unique(found.scenes, return_inverse=True)
    num_seeds = len(hits)
    by_scene = np.stack([np.bincount(scenes, weights=row) for row in hits])  # (S, G)
    seed_pairs = num_seeds * (num_seeds - 1)
    sizes = np.bincount(scenes)
    by_sample = hits.sum(axis=0)
    of_sample = (by_sample**2).sum() - hits.sum()
    of_scene = (by_scene.sum(axis=0) ** 2).sum() - (by_scene**2).sum() - of_sample
    of_seed = (hits.sum(axis=1) ** 2).sum() - (by_scene**2).sum()
    shares = {
        "sample": of_sample / (seed_pairs * hits.shape[1]),
        "scene": of_scene / (seed_pairs * (sizes * (sizes - 1)).sum()),
        "seed": of_seed / (num_seeds * (sizes.sum() ** 2 - (sizes**2).sum())),
    }
    same = {kind: max(0.0, tetrachoric(share, float(hits.mean()))) for kind, share in shares.items()}
    return World(same["seed"], same["scene"], max(0.0, same["sample"] - same["scene"]))


def tetrachoric(both: float, each: float) -> float:
    """Correlation of two normal variables, each positive with one probability and both with another."""
    place = stats.norm.ppf(each)

    def excess(correlation: float) -> float:
        covariance = [[1, correlation], [correlation, 1]]
        return float(stats.multivariate_normal([0, 0], covariance).cdf([place, place])) - both

    return float(brentq(excess, -0.99, 0.99))


def table(figures: dict[str, dict]) -> str:
    """The figures as Markdown, in percent."""
    headers = [f"{seeds} seeds" for seeds in SEEDS]

    def rows(kind: str) -> list[list[str]]:
        return [
            [world, *(_percent(by_seeds[str(seeds)]) for seeds in SEEDS)]
            for world, by_seeds in figures[kind].items()
        ]

    titles = {
        "false_claims": f"Families of {FAMILY} contrasts with a false claim, %",
        "power": f"Claims of one of {FAMILY} contrasts that is {' / '.join(map(str, GAINS))} points, %",
        "coverage": "95 % intervals of a difference that contain the true one, %",
    }
    return "\n\n".join(
        f"{title}:\n\n{tabulate(rows(kind), ['World', *headers], 'github')}" for kind, title in titles.items()
    )


def _percent(value: float | dict[str, float]) -> str:
    if isinstance(value, dict):
        return " / ".join(f"{100 * share:.0f}" for share in value.values())
    return f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
