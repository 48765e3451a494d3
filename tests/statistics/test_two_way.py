"""The two-way analysis: a worked example, a plain jackknife, and what may be claimed from it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from stages.lib.statistics import significance, two_way
from stages.lib.statistics.results import Contrast

# Right answers of four seeds to eight samples of four scenes.
MODEL_A = ["11111101", "11101111", "11111111", "11110111"]
MODEL_B = ["10110101", "00101111", "10110011", "11010110"]
SCENES = np.repeat(np.arange(4), 2)


def predictions(right: list[str], labels: np.ndarray) -> np.ndarray:
    return np.stack([np.where([answer == "1" for answer in row], labels, 1 - labels) for row in right])


@pytest.mark.parametrize(
    ("labels", "mean", "se", "p", "low", "high"),
    [
        ([0, 1, 0, 1, 0, 1, 0, 1], 0.28125, 0.102592, 0.071252, -0.045244, 0.607744),
        ([0, 0, 0, 1, 0, 0, 0, 1], 0.229167, 0.065227, 0.039103, 0.021586, 0.436748),
    ],
)
def test_worked_example(labels: list[int], mean: float, se: float, p: float, low: float, high: float) -> None:
    truth = np.array(labels)
    values = [
        two_way.scene_accuracies(predictions(part, truth), truth, SCENES) for part in (MODEL_A, MODEL_B)
    ]
    found = significance.difference("a", "b", values[0] - values[1], 0.95)
    assert (found.difference, found.se, found.df, found.p) == pytest.approx((mean, se, 3, p), abs=1e-6)
    assert found.interval == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_scene_values_are_the_jackknifes(num_classes: int) -> None:
    """A scene's value tells what leaving it out changes, to first order; and rows average to the metric."""
    rng = np.random.default_rng(num_classes)
    scenes = np.repeat(np.arange(300), 2)
    labels = rng.integers(0, num_classes, 600)
    predicted = np.where(rng.random((3, 600)) < 0.8, labels, rng.integers(0, num_classes, (3, 600)))
    values = two_way.scene_accuracies(predicted, labels, scenes)
    for row, decided in zip(values, predicted, strict=True):
        full = balanced_accuracy_score(labels, decided)
        assert row.mean() == pytest.approx(full, abs=1e-12)
        left_out = np.array(
            [balanced_accuracy_score(labels[scenes != g], decided[scenes != g]) for g in range(300)]
        )
        pseudo = 300 * full - 299 * left_out
        assert pseudo == pytest.approx(row, abs=0.02)
        assert pseudo.std(ddof=1) == pytest.approx(row.std(ddof=1), rel=0.01)


def test_jackknife_is_exact_where_every_scene_holds_each_class() -> None:
    """Then balanced accuracy is a plain mean over scenes, and the analysis that of a plain loop."""
    rng = np.random.default_rng(0)
    scenes, labels = np.repeat(np.arange(40), 2), np.tile([0, 1], 40)
    right = rng.random((4, 80)) < 0.8
    values = two_way.scene_accuracies(np.where(right, labels, 1 - labels), labels, scenes)
    left_out = np.array([[np.delete(row, [2 * g, 2 * g + 1]).mean() for g in range(40)] for row in right])
    assert values == pytest.approx(40 * right.mean(axis=1, keepdims=True) - 39 * left_out)
    found = two_way.analyse(values)
    of_seeds, of_scenes, rest = 0.0, 0.0, 0.0
    for s in range(4):
        of_seeds += 40 * (values[s].mean() - values.mean()) ** 2 / 3
        for g in range(40):
            rest += (values[s, g] - values[s].mean() - values[:, g].mean() + values.mean()) ** 2 / (3 * 39)
    for g in range(40):
        of_scenes += 4 * (values[:, g].mean() - values.mean()) ** 2 / 39
    assert found.mean_squares == pytest.approx([of_seeds, of_scenes, rest])
    total = max(of_seeds, rest) + max(of_scenes - rest, 0)
    assert found.se == pytest.approx((total / 160) ** 0.5)


def made_up(
    gains: dict[str, float],
    *,
    num_seeds: int,
    num_scenes: int = 200,
    spread: float = 0.005,
    noise: float = 0.1,
) -> dict[str, np.ndarray]:
    """Models that are right more often by so much, under seeds that differ by so little."""
    rng = np.random.default_rng(3)
    scene = rng.normal(0.8, 0.1, num_scenes)
    return {
        name: scene
        + gain
        + rng.normal(0, spread, (num_seeds, 1))
        + rng.normal(0, noise, (num_seeds, num_scenes))
        for name, gain in gains.items()
    }


def family(
    gains: dict[str, float], *, margin: float = 0.02, failed: tuple[str, ...] = (), **options: float
) -> dict[str, Contrast]:
    """Every model against the first."""
    first, *others = gains
    pairs = [(name, first) for name in others]
    claims = significance.family(made_up(gains, **options), pairs, 0.95, margin, failed)
    return {claim.model: claim for claim in claims}


def test_better_worse_and_tied() -> None:
    claims = family({"a": 0.0, "b": 0.1, "c": -0.1, "d": 0.0005}, num_seeds=6)
    assert {name: claim.outcome for name, claim in claims.items()} == {
        "b": "better",
        "c": "worse",
        "d": "tied",
    }
    assert claims["b"].difference == pytest.approx(0.1, abs=0.01)
    assert all(claim.plan is None for claim in claims.values())


@pytest.mark.parametrize(("num_seeds", "outcome"), [(1, "not decided"), (2, "not decided"), (3, "worse")])
def test_a_claim_takes_three_seeds(num_seeds: int, outcome: str) -> None:
    claim = family({"a": 0.0, "b": -0.3}, num_seeds=num_seeds)["b"]
    assert claim.outcome == outcome
    assert (claim.p is None) == (claim.p_holm is None) == (num_seeds < 3)
    assert (claim.interval is None) == (num_seeds < 2)


def test_one_scene_tells_nothing() -> None:
    claim = family({"a": 0.0, "b": -0.3}, num_seeds=4, num_scenes=1)["b"]
    assert claim.outcome == "not decided" and claim.interval is None and claim.tied_within is None


def test_equal_predictions_are_no_claim() -> None:
    values = made_up({"a": 0.0}, num_seeds=4)["a"]
    (claim,) = significance.family({"a": values, "b": values}, [("b", "a")], 0.95, 0.03)
    assert (claim.difference, claim.interval, claim.p, claim.outcome) == (0, None, None, "not decided")


def test_one_lucky_scene_is_no_claim() -> None:
    """Ten seeds agree, but all of the difference comes from one scene of six."""
    values = {"a": np.ones((10, 6)), "b": np.ones((10, 6))}
    values["b"][:, 0] = 0
    (claim,) = significance.family(values, [("b", "a")], 0.95, 0.03)
    assert claim.outcome == "not decided" and claim.seed_share == pytest.approx(0)


def test_nothing_is_claimed_about_a_model_that_did_not_train() -> None:
    claims = family({"a": 0.0, "b": -0.3, "c": -0.3}, num_seeds=4, failed=("b",))
    assert (claims["b"].outcome, claims["c"].outcome) == ("not decided", "worse")
    assert claims["b"].p is not None and claims["b"].p < 0.01


def test_a_tie_takes_more_than_no_difference() -> None:
    claim = family({"a": 0.0, "b": 0.0}, num_seeds=6, spread=0.03)["b"]
    assert claim.outcome == "not decided"
    assert claim.tied_within is not None and claim.tied_within > 0.02


def test_holm_by_hand() -> None:
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([]) == []


def test_what_a_plan_says_decides_four_times_in_five() -> None:
    """With as many more scenes as the plan says, or seeds, most repetitions decide."""
    rng = np.random.default_rng(5)
    of_seed, of_scene, rest, gain = 0.004, 0.15, 0.2, 0.02

    def draw(num_seeds: int, num_scenes: int) -> np.ndarray:
        return (
            gain
            + rng.normal(0, of_seed, (num_seeds, 1))
            + rng.normal(0, of_scene, num_scenes)
            + rng.normal(0, rest, (num_seeds, num_scenes))
        )

    plans = [two_way.plan(draw(4, 200), 0.05, 0.005) for _ in range(50)]
    more = int(np.median([part.scenes for part in plans if part.scenes is not None]))
    assert 100 < more < 2000
    share = np.mean([two_way.analyse(draw(4, 200 + more)).p < 0.05 for _ in range(300)])
    assert 0.6 < share < 0.95


def test_seeds_alone_cannot_mend_too_few_scenes() -> None:
    rng = np.random.default_rng(6)
    values = 0.05 + rng.normal(0, 0.5, 100) + rng.normal(0, 0.01, (4, 100))
    found = two_way.plan(values, 0.05, 0.01)
    assert found.seeds is None and found.scenes is not None
