"""The models by condition: accuracies worked out by hand, and claims about gains that are planted or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from support.manifest import made_up_manifest

from stages.lib import params
from stages.lib.comparison import conditions, resampled
from stages.lib.comparison.results import ConditionValue
from stages.lib.core.errors import UserError
from stages.lib.evaluation import predictions
from stages.lib.evaluation.predictions import Predictions
from stages.lib.plots import conditions as plots
from stages.lib.plots import style
from stages.lib.plots.conditions import ConditionPoints, by_condition
from stages.lib.tensors.groups import CachedGroup
from stages.lib.tensors.manifest import Condition, Manifest

NAMES = ["rgb", "lidar", "addition", "late"]
PAIRS = [("addition", "lidar"), ("late", "lidar")]
SEEDS = [51, 52, 53, 54]
REPORT = replace(params.load().report, draws=100)


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def groups_of(values: list[str], labels: list[int], scenes: list[int]) -> list[CachedGroup]:
    return [
        CachedGroup("test", f"{i}", f"scene {scene}", label, 9, 20.0, {"weather": value})
        for i, (value, label, scene) in enumerate(zip(values, labels, scenes, strict=True))
    ]


def manifest_of(groups: list[CachedGroup], classes: tuple[str, ...] = ("cubes", "spheres")) -> Manifest:
    counts = {name: sum(group.label == label for group in groups) for label, name in enumerate(classes)}
    values = list(dict.fromkeys(group.conditions["weather"] for group in groups))
    manifest = made_up_manifest(classes, {"train": counts, "test": counts}, {"train": 9, "test": 9})
    return replace(manifest, conditions=[Condition("weather", values, None, ["rgb"], {})])


def compare(groups: list[CachedGroup], right: dict[str, np.ndarray]) -> list[ConditionValue]:
    """Writes the predictions of models that are right (S x N) or wrong, reads and compares them."""
    labels = np.array([group.label for group in groups])
    for name, is_right in right.items():
        signs = np.where(is_right, 1, -1) * np.where(labels == 1, 1, -1)
        logits = signs[..., None].astype(np.float32)
        predictions.write(
            name, [Predictions(seed, "test", groups, own) for seed, own in zip(SEEDS, logits, strict=False)]
        )
    for name in resampled.BASELINES:
        predictions.write(name, [Predictions(0, "test", groups, np.zeros((len(groups), 1), np.float32))])
    shares, seeds = np.array([0.5, 0.5]), SEEDS[: len(right["rgb"])]
    split = resampled.read(NAMES, "test", seeds, REPORT.draws, shares, with_ranks=False)
    return conditions.compare(split, manifest_of(groups), NAMES, PAIRS, REPORT)


def test_accuracies_by_hand() -> None:
    """In rain: 3 cubes and 1 sphere. Seed 51 gets 2 of 3 and 1 of 1 right, seed 52 all cubes and no sphere."""
    values = ["rain"] * 4 + ["sun"] * 4
    groups = groups_of(values, [0, 0, 0, 1, 0, 0, 1, 1], list(range(8)))
    right = np.array([[1, 1, 0, 1, 1, 1, 1, 0], [1, 1, 1, 0, 1, 1, 1, 1]], dtype=bool)
    rain, sun = compare(groups, dict.fromkeys(NAMES, right))
    assert (rain.condition, rain.value, rain.num_groups, rain.num_scenes) == ("weather", "rain", 4, 4)
    assert rain.accuracies["late"].mean == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert sun.accuracies["rgb"].mean == pytest.approx((3 / 4 + 1) / 2)
    assert rain.accuracies["late"].low is None, "a handful of groups has no interval"
    assert rain.gains == {} and rain.withheld == "fewer than 20 groups"


def test_a_class_that_is_absent_is_no_average_over_the_other() -> None:
    values = ["rain"] * 30 + ["sun"] * 30
    groups = groups_of(values, [0] * 30 + [0, 1] * 15, list(range(60)))
    rain, sun = compare(groups, dict.fromkeys(NAMES, np.ones((4, 60), dtype=bool)))
    assert rain.accuracies == {} and rain.gains == {} and rain.withheld == "no spheres"
    assert sun.withheld is None and sun.accuracies["rgb"].mean == 1


def test_few_scenes_decide_nothing() -> None:
    """Forty groups, but all spheres are of four scenes."""
    labels = [0, 1] * 20
    scenes = [i if label == 0 else i % 8 // 2 for i, label in enumerate(labels)]
    (rain,) = compare(
        groups_of(["rain"] * 40, labels, scenes), dict.fromkeys(NAMES, np.ones((4, 40), dtype=bool))
    )
    assert rain.withheld == "fewer than 5 scenes with spheres" and rain.gains == {}


def planted(generator: np.random.Generator, gain: float, count: int = 400) -> list[ConditionValue]:
    """Every model is right on 70 % of the groups; late fusion on more of those in rain."""
    values = ["rain" if i % 4 < 2 else "sun" for i in range(count)]
    groups = groups_of(values, [i % 2 for i in range(count)], [i // 2 for i in range(count)])
    difficulty = generator.normal(size=count)  # that all models share
    right = {}
    for name in NAMES:
        bonus = gain * np.array([value == "rain" for value in values]) * (name == "late")
        score = difficulty + generator.normal(size=(4, count)) + generator.normal(size=count)
        right[name] = score < 0.9 + bonus
    return compare(groups, right)


def test_a_planted_gain_is_said_and_noise_is_not() -> None:
    rain, sun = planted(np.random.default_rng(0), 2.0)
    assert {name: gain.outcome for name, gain in rain.gains.items()} == {
        "addition": "not decided",
        "late": "better",
    }
    assert all(gain.outcome != "better" for gain in sun.gains.values())
    late = rain.gains["late"]
    assert late.model == "late" and late.against == "lidar"
    for part in (rain, sun):
        for found in part.accuracies.values():
            assert found.low is not None and found.high is not None
            assert 0 <= found.low < found.mean < found.high <= 1
    gained = rain.accuracies["late"].mean - rain.accuracies["lidar"].mean
    assert late.difference == pytest.approx(gained) and gained > 0.1


def test_all_values_are_one_family() -> None:
    found = [gain for part in planted(np.random.default_rng(1), 0.6) for gain in part.gains.values()]
    p = [gain.p for gain in found]
    assert len(p) == 4 and all(value is not None for value in p)
    assert [gain.p_holm for gain in found] == pytest.approx(multipletests(p, method="holm")[1])
    assert [gain.p for gain in found] != [gain.p_holm for gain in found]


def test_a_model_that_did_not_train_gets_no_claim() -> None:
    groups = groups_of(["rain"] * 80, [i % 2 for i in range(80)], list(range(80)))
    right = {name: np.random.default_rng(0).random((4, 80)) < 0.7 for name in NAMES}
    right["late"] = np.ones((4, 80), dtype=bool)
    right["lidar"] = np.zeros((4, 80), dtype=bool)
    right["lidar"][:, ::3] = True
    (rain,) = compare(groups, right)
    assert rain.gains["late"].difference > 0.5 and rain.gains["late"].outcome == "not decided"


def test_predictions_of_another_version_are_named() -> None:
    groups = groups_of(["rain"] * 8, [0, 1] * 4, list(range(8)))
    compare(groups, dict.fromkeys(NAMES, np.ones((2, 8), dtype=bool)))
    split = resampled.read(NAMES, "test", SEEDS[:2], 100, np.array([0.5, 0.5]), with_ranks=False)
    manifest = replace(manifest_of(groups), conditions=[Condition("road", ["wet"], None, [], {})])
    with pytest.raises(UserError, match="no condition 'road'; run `dvc repro`"):
        conditions.compare(split, manifest, NAMES, PAIRS, REPORT)


def test_the_figure_shows_every_value_with_its_groups() -> None:
    accuracies = {name: (0.8, (0.7, 0.9)) for name in NAMES}
    values = [ConditionPoints("$5 | Öde", 1234, accuracies), ConditionPoints("few", 3, {})]
    panels = {"weather": values, "road": values[:1]}
    figure = plots.by_condition(panels, NAMES[1:], NAMES, 0.5, 0.95)
    weather, road = figure.axes
    assert [label.get_text() for label in weather.get_yticklabels()] == ["\\$5 | Öde\n(1,234)", "few\n(3)"]
    assert weather.get_title() == "weather" and len(road.get_yticklabels()) == 1
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == NAMES[1:]
    style.plt.close(figure)


@pytest.mark.sweep
def test_claims_about_noise_are_rare() -> None:
    """Of 100 data sets without any gain, at most 5 % (and chance) show one."""
    false = sum(
        any(
            gain.outcome in ("better", "worse")
            for part in planted(generator, 0.0, 120)
            for gain in part.gains.values()
        )
        for generator in np.random.default_rng(2).spawn(100)
    )
    assert false <= 11


def test_figure_of_values_that_lack_a_class() -> None:
    """Every model is in the legend, even if the first value has no point."""
    bounds = (0.8, 0.95)
    panels = {
        "weather": [
            ConditionPoints("fog", 3, {}),
            ConditionPoints("sun", 40, {"rgb": (0.9, bounds), "late": (0.9, bounds)}),
        ]
    }
    figure = by_condition(panels, ["rgb", "late"], ["rgb", "late"], 0.5, 0.95)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["rgb", "late"]
