"""What is left under corruptions and failures: by hand, and intervals on simulated decisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.lib.comparison import robustness, sensor_failures
from stages.lib.comparison.results import trained_rates
from stages.lib.comparison.robustness import JudgedGroups
from stages.lib.core.errors import UserError
from stages.lib.evaluation import decisions
from stages.lib.evaluation.decisions import ABSENT, Decisions
from stages.lib.statistics import bootstrap


def judged(labels: list[int] | np.ndarray, *, num_seeds: int, scene_size: int = 1) -> JudgedGroups:
    labels = np.array(labels)
    scenes = np.arange(len(labels)) // scene_size
    draws = bootstrap.draw(num_seeds, int(scenes.max()) + 1, 500)
    return JudgedGroups(labels, scenes, draws, 0.95)


def made_up(labels: np.ndarray, right: dict[str, np.ndarray]) -> Decisions:
    """Two classes; by state, which decisions are right (S x N)."""
    decided = {state: np.where(hits, labels, 1 - labels) for state, hits in right.items()}
    seeds = len(next(iter(right.values())))
    return Decisions(list(range(seeds)), [str(i) for i in range(len(labels))], decided)


def test_relative_area_by_hand() -> None:
    """Accuracies 0.9, 0.7 and 0.5 at severities 0, 1, 3: areas 0.3 and 0.2 above chance, of 1.2."""
    labels = np.repeat([0, 1], 10)
    shares = {"clean": 0.9, "rgb noise 1": 0.7, "rgb noise 3": 0.5}
    right = {s: np.tile(np.arange(10) < round(10 * share), 2)[None] for s, share in shares.items()}
    curves, means = robustness.curves(made_up(labels, right), judged(labels, num_seeds=1))
    curve = curves["rgb"]["noise"]
    assert curve.severities == [0, 1, 3] and curve.num_groups == 20
    assert curve.accuracies == pytest.approx([0.9, 0.7, 0.5])
    assert curve.relative_area == pytest.approx(0.5 / 1.2)
    assert means["rgb"].mean == pytest.approx(0.5 / 1.2)


def test_a_model_at_chance_has_no_share() -> None:
    labels = np.repeat([0, 1], 10)
    right = {state: np.tile([True, False], 10)[None] for state in ("clean", "rgb noise 1")}
    curves, means = robustness.curves(made_up(labels, right), judged(labels, num_seeds=1))
    assert curves["rgb"]["noise"].relative_area is None and means == {}


def test_only_groups_in_the_state_count() -> None:
    """The clean accuracy, too, is that of the groups that are corrupted."""
    labels = np.repeat([0, 1], 10)
    right = {"clean": np.tile(np.arange(10) < 5, 2)[None], "lidar fog 3": np.ones((1, 20), bool)}
    found = made_up(labels, right)
    chosen = np.tile(np.arange(10) < 4, 2)  # of which all were right
    found.decided["lidar fog 3"][:, ~chosen] = ABSENT
    curve = robustness.curves(found, judged(labels, num_seeds=1))[0]["lidar"]["fog"]
    assert curve.accuracies == [1.0, 1.0] and curve.relative_area == 1 and curve.num_groups == 8


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Simulated decisions with effects of scenes and of seeds; the true share that is left is one half."""
    rng = np.random.default_rng(0)
    num_seeds, num_scenes, repetitions = 5, 60, 100
    labels = np.tile([0, 1], num_scenes)
    groups = judged(labels, num_seeds=num_seeds, scene_size=2)
    inside, widths = 0, []
    for _ in range(repetitions):
        by_scene = np.repeat(rng.normal(0, 0.06, num_scenes), 2)[None]
        by_seed = rng.normal(0, 0.02, (num_seeds, 1))
        right = {
            state: rng.random((num_seeds, 2 * num_scenes)) < share + by_scene + by_seed
            for state, share in {"clean": 0.85, "lidar fog 1": 0.675, "lidar fog 2": 0.5}.items()
        }
        mean = robustness.curves(made_up(labels, right), groups)[1]["lidar"]
        assert mean.low is not None and mean.high is not None
        inside += mean.low <= 0.5 <= mean.high
        widths.append(mean.high - mean.low)
    assert inside / repetitions > 0.88
    assert np.median(widths) < 0.35


def test_failing_samples_are_nested_and_keep_the_classes() -> None:
    labels = np.array([0] * 40 + [1] * 8)
    order = sensor_failures.failure_order(labels)
    before = np.zeros(len(labels), bool)
    for rate in (0.1, 0.25, 0.5, 0.75, 1.0):
        fails = order.rates < rate
        assert not (before & ~fails).any()
        assert [fails[labels == label].sum() for label in (0, 1)] == [
            round(40 * rate),
            round(8 * rate + 0.01),
        ]
        before = fails
    assert before.all()
    again = sensor_failures.failure_order(labels)
    assert (again.rates == order.rates).all() and (again.turns == order.turns).all()
    # One of the two: half of the failing samples of each class miss RGB, the other half LiDAR.
    for label in (0, 1):
        assert order.turns[labels == label].mean() == 0.5


def test_accuracy_at_each_rate_by_hand() -> None:
    """All right with both sensors, all wrong without RGB, and half of the samples right without LiDAR."""
    labels = np.repeat([0, 1], 40)
    order = sensor_failures.failure_order(labels)
    right = {
        "clean": np.ones((2, 80), bool),
        "rgb missing": np.zeros((2, 80), bool),
        # Half of the samples of each sensor's turn, at any rate about as many.
        "lidar missing": np.tile((order.rates * 40 - 0.5).round() % 4 < 2, (2, 1)),
        "both missing": np.zeros((2, 80), bool),
    }
    curves = sensor_failures.curves(made_up(labels, right), judged(labels, num_seeds=2), [0.1, 0.5, 1.0])
    assert list(curves) == ["rgb", "lidar", "either"]
    assert curves["rgb"].rates == [0, 0.1, 0.5, 1.0]
    assert curves["rgb"].accuracies == pytest.approx([1, 0.9, 0.5, 0])
    assert curves["lidar"].accuracies == pytest.approx([1, 0.95, 0.75, 0.5])
    assert curves["either"].accuracies == pytest.approx([1, 0.925, 0.625, 0.25])
    low, high = curves["rgb"].low[2], curves["rgb"].high[2]
    assert low is not None and high is not None and low < 0.5 < high


def test_a_network_of_one_sensor_does_not_miss_the_other() -> None:
    labels = np.repeat([0, 1], 20)
    right = {"clean": np.ones((1, 40), bool), "rgb missing": np.zeros((1, 40), bool)}
    curves = sensor_failures.curves(made_up(labels, right), judged(labels, num_seeds=1), [0.5, 1.0])
    assert curves["lidar"].accuracies == [1, 1, 1]
    assert curves["rgb"].accuracies == [1, 0.5, 0] and curves["either"].accuracies == [1, 0.75, 0.5]


def test_each_sensor_is_missed_on_half_of_the_dropped_samples() -> None:
    assert trained_rates(0.3) == {"rgb": 0.15, "lidar": 0.15, "either": 0.3}


def test_resampled_accuracy_is_that_of_the_drawn_scenes() -> None:
    """Scene 0 twice and scene 2 once, of three: recalls 3 of 4 and 1 of 2."""
    labels, scenes = np.array([0, 0, 1, 0, 1, 0, 0]), np.array([0, 0, 1, 1, 2, 2, 2])
    is_right = np.array([[True, False, True, True, True, True, True]])
    drawn = np.array([[2, 0, 1], [0, 0, 0]], dtype=np.uint8)
    found = bootstrap.accuracies(is_right, labels, scenes, drawn)
    assert found[0, 0] == pytest.approx(((2 * 1 + 2) / (2 * 2 + 2) + 1) / 2)
    assert np.isnan(found[1, 0])


def test_decisions_are_read_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    decided = {
        "clean": np.array([[0, 1, 2], [1, 1, 1]]),
        "rgb noise 1": np.array([[ABSENT, 1, 0], [2, 2, ABSENT]]),
    }
    decisions.write("late", Decisions([9, 3], ["a", "b", "c"], decided))
    found = decisions.read("late")
    assert found.seeds == [3, 9] and found.groups == ["a", "b", "c"]
    assert {state: rows.tolist() for state, rows in found.decided.items()} == {
        state: rows[::-1].tolist() for state, rows in decided.items()
    }
    with pytest.raises(
        UserError, match=r"reports/decisions/rgb.parquet: no such file; `dvc repro` evaluates rgb"
    ):
        decisions.read("rgb")
