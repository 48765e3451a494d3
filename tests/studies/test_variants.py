"""The zoo's variants: which runs they are, and what the report says of made-up results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.comparisons import comparison, model_result

from scripts.studies.zoo import figure, page, study, variants
from scripts.studies.zoo.variants import Matched, Places, RunResults
from stages.lib import fusions, params
from stages.lib.comparison.results import ModelResult, Summary
from stages.lib.plots import style
from stages.lib.statistics import significance
from stages.lib.statistics.results import LEAST_SEEDS

SEEDS, SCENES = 6, 200


def test_the_runs_of_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All fusions with enough seeds for claims, then eight at one size and two at the other places."""
    monkeypatch.setattr(study, "faster_precision", lambda: "bfloat16")
    main = study.main_settings()
    settings = dict(setting.split("=", 1) for setting in main)
    listed = [name for key in ("intermediate", "late") for name in settings[key].strip("[]").split(",")]
    assert sorted(listed) == sorted(fusions.names(*fusions.KINDS))
    assert len(settings["seeds"].split(",")) > LEAST_SEEDS and settings["train.precision"] == "bfloat16"
    runs = {run.name: run.settings for run in variants.list_runs(main)}
    assert list(runs) == ["matched", "fuse-after-1", "fuse-after-2"]
    assert "network.match_parameters=true" in runs["matched"]
    assert f"intermediate=[{','.join(variants.DIFFERENT)}]" in runs["matched"]
    assert len(variants.DIFFERENT) == 8 and set(variants.DIFFERENT) <= set(listed)
    assert "intermediate=[concatenation,addition]" in runs["fuse-after-1"]
    assert all(run[: len(main)] == tuple(main) for run in runs.values()), "the same seeds and precision"


@pytest.fixture(autouse=True)
def in_a_folder_with_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit_params: Callable[..., Path]
) -> None:
    edit_params()
    monkeypatch.chdir(tmp_path)


def test_variants_follow_the_users_settings() -> None:
    def names(*settings: str) -> list[str]:
        return [run.name for run in variants.list_runs(settings)]

    assert names("network.fuse_after=2") == ["matched", "fuse-after-1", "fuse-after-3"]
    assert names("network.match_parameters=true") == ["fuse-after-1", "fuse-after-2"]
    assert names("intermediate=[hadamard]") == ["matched"]
    assert names("intermediate=[early]") == []
    only = variants.list_runs(["intermediate=[early,hadamard]", "late=[late_mean]"])[0].settings
    assert {"intermediate=[hadamard]", "late=[late_mean]", "fusion=hadamard"} <= set(only)


def made_up(strengths: dict[str, float], reference: str, seeds: int = SEEDS, **settings: int) -> RunResults:
    """A run whose models have these balanced accuracies, with noise of seeds and scenes that models share in part."""
    own = [int(1000 * sum(strengths.values())), *(int(value) for value in settings.values())]
    shared, generator = np.random.default_rng(0).normal(0, 0.3, SCENES), np.random.default_rng(own)
    values = {
        name: mean
        + shared
        + generator.normal(0, 0.003, (seeds, 1))
        + generator.normal(0, 0.08, (seeds, SCENES))
        for name, mean in strengths.items()
    }
    values = {name: array - array.mean() + strengths[name] for name, array in values.items()}
    intermediate = [name for name in strengths if name not in ("rgb", "lidar", "late")]
    loaded = replace(params.load(), intermediate=intermediate, late=["late"])
    loaded = replace(loaded, network=replace(loaded.network, **settings))
    pairs = [(name, reference) for name in loaded.fusion_names() if name != reference]
    contrasts = {c.model: c for c in significance.family(values, pairs, 0.95, 0.03)}

    def model(name: str) -> ModelResult:
        mean = strengths[name]
        accuracy = Summary(
            values[name].mean(axis=1).tolist(), mean, 0.01, mean - 0.02, mean + 0.02, None, None
        )
        kind = "unimodal" if name in ("rgb", "lidar") else "late" if name == "late" else "intermediate"
        return model_result(
            kind=kind,
            parameters=6_600_000 + len(name),
            metrics={"test": {"balanced_accuracy": accuracy}},
            contrast=contrasts.get(name),
        )

    compared = comparison(
        reference=reference,
        single="lidar",
        seeds=list(range(seeds)),
        num_scenes=SCENES,
        models={name: model(name) for name in strengths},
    )
    return RunResults(loaded, compared, values)


MAIN = {"rgb": 0.84, "lidar": 0.87, "concatenation": 0.95, "addition": 0.955, "hadamard": 0.88, "late": 0.96}


def made_up_matched() -> Matched:
    main = made_up(MAIN, "late")
    return variants.compare_matched(
        main, made_up(MAIN | {"concatenation": 0.90}, "late", match_parameters=True)
    )


def made_up_places() -> Places:
    few = {name: MAIN[name] for name in ("rgb", "lidar", "concatenation", "addition", "late")}
    others = {
        1: made_up(few | {"addition": 0.86}, "late", fuse_after=1),
        2: made_up(few, "late", fuse_after=2),
    }
    return variants.compare_places(made_up(MAIN, "late"), others)


def test_what_is_said_at_one_size() -> None:
    matched = made_up_matched()
    assert {name: c.outcome for name, c in matched.changes.items()} == {
        "concatenation": "worse",
        "addition": "tied",
        "hadamard": "tied",
        "late": "tied",
    }
    assert matched.changes["concatenation"].difference == pytest.approx(-0.05)
    report = page.insert("# Title\n\n## Before\n\nText\n\n## Cost\n\nMore\n", matched, None)
    section = report.split("## At one number of parameters\n")[1].split("\n## Cost\n")[0]
    assert report.startswith("# Title\n\n## Before\n\nText\n\n## At one") and report.endswith(
        "## Cost\n\nMore\n"
    )
    assert (
        "At one size, late has the lowest validation loss; tied with it, within 3 points: addition; "
        in section
    )
    assert "significantly worse than late: concatenation and hadamard." in section
    assert "Compared with the main run, concatenation is worse (\N{MINUS SIGN}5.0 points, " in section
    assert "no other change is significant" in section
    assert "concatenation (tied there, worse here)" in section
    assert "\n\n\n" not in report and "Where to fuse" not in report


def test_what_is_said_of_the_place() -> None:
    places = made_up_places()
    assert list(places.runs) == [1, 2, 3] and places.default == 3 and len(places.contrasts) == 6
    outcomes = {key: contrast.outcome for key, contrast in places.contrasts.items()}
    assert outcomes["addition", 2, 1] == outcomes["addition", 3, 1] == "better"
    assert outcomes["concatenation", 3, 1] == "tied"
    p_values = [contrast.p for contrast in places.contrasts.values()]
    assert [c.p_holm for c in places.contrasts.values()] == pytest.approx(significance.holm(p_values))
    section = page.insert("\n## Cost\n", None, places)
    assert (
        "With concatenation, no difference between the places is significant; tied within 3 points: "
        in section
    )
    assert (
        "With addition, fusing after block 2 is significantly better than after block 1 (+9.5 points, "
        in section
    )
    assert "all 6 comparisons" in section and "| 3 (main run)" in section


def test_too_few_seeds_claim_nothing() -> None:
    main, run = made_up(MAIN, "late", seeds=2), made_up(MAIN, "late", seeds=2)
    report = page.insert("\n## Cost\n", variants.compare_matched(main, run), None)
    assert "Nothing can be claimed with 2 seeds." in report and "significant" not in report


def test_the_numbers_are_plain_json() -> None:
    numbers = json.loads(json.dumps(page.numbers(made_up_matched(), made_up_places())))
    assert numbers["matched"]["models"]["concatenation"]["here"]["balanced_accuracy"]["mean"] == 0.90
    assert numbers["matched"]["models"]["concatenation"]["change"]["outcome"] == "worse"
    assert numbers["fuse_after"]["models"]["addition"]["1"]["balanced_accuracy"]["mean"] == 0.86
    assert len(numbers["fuse_after"]["contrasts"]) == 6 and numbers["fuse_after"]["main"] == 3


@pytest.mark.parametrize(("with_matched", "with_places"), [(True, True), (True, False), (False, True)])
def test_the_figure(tmp_path: Path, with_matched: bool, with_places: bool) -> None:
    drawn = figure.draw(
        made_up_matched() if with_matched else None, made_up_places() if with_places else None
    )
    assert isinstance(drawn, Figure) and len(drawn.axes) == with_matched + with_places
    style.save(drawn, tmp_path / "variants.png")
    assert 3_000 < (tmp_path / "variants.png").stat().st_size < 200_000
