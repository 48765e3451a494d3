"""The learning curve: its draws are nested, its page says no more than made-up results with a known answer allow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from support.curve_runs import MODELS, made_up_groups, write_run

from scripts.studies import parameters
from scripts.studies.learning_curve import answer, figure, page, results, study
from scripts.studies.learning_curve.results import Curve
from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.training import subsample

SENSORS = {"rgb": 0.70, "lidar": 0.72}
EQUAL = {**SENSORS, **dict.fromkeys(("concatenation", "addition", "hadamard", "late"), 0.92)}
# Late fusion leads with few groups only; what the others gain is known.
LATE_LEADS = {
    0.25: {
        "rgb": 0.6,
        "lidar": 0.65,
        "concatenation": 0.80,
        "addition": 0.79,
        "hadamard": 0.72,
        "late": 0.90,
    },
    0.5: {"rgb": 0.65, "lidar": 0.7, "concatenation": 0.86, "addition": 0.85, "hadamard": 0.80, "late": 0.91},
    1.0: EQUAL,
}
TIED = dict.fromkeys((0.25, 0.5, 1.0), EQUAL)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Curve]:
    """Reads the curve of made-up runs, given each model's accuracy by share."""

    def curve(accuracies: dict[float, dict[str, float]], **options: object) -> Curve:
        folder = tmp_path_factory.mktemp("runs")
        return results.read(
            {
                share: write_run(folder / str(share), values, run=run, **options)
                for run, (share, values) in enumerate(accuracies.items())
            }
        )

    return curve


@pytest.fixture(scope="module")
def late_leads(made_up: Callable[..., Curve]) -> Curve:
    return made_up(LATE_LEADS)


def test_draws_are_nested() -> None:
    """Of scenes of several strata and sizes, for every seed: a smaller share is part of each larger one."""
    groups = [
        *made_up_groups("both", 21, (0, 1)),
        *made_up_groups("one", 10, (0,)),
        *made_up_groups("other", 3, (1,)),
        *made_up_groups("both", 5, (1,)),  # scenes of three groups
    ]
    for seed in (0, 51, 52, 53, 54):
        drawn = [set(subsample.draw(groups, share, seed)) for share in study.SHARES]
        assert drawn[0] < drawn[1] < drawn[2] == set(range(len(groups)))
        for positions in drawn:
            scenes = {groups[place].scene for place in positions}
            assert positions == {place for place, group in enumerate(groups) if group.scene in scenes}


def test_the_largest_run_is_the_default_run() -> None:
    """So DVC takes its stages from the cache."""
    runs = study.planned([])
    assert list(runs) == [0.25, 0.5, 1.0] and len({run.name for run in runs.values()}) == 3
    default = params.load()
    assert parameters.resolved(runs[1.0].settings) == default
    assert default.seeds == [51, 52, 53, 54]
    quarter = parameters.resolved(runs[0.25].settings)
    assert quarter.train == replace(default.train, subsample=0.25)
    assert (quarter.seeds, quarter.model_names()) == (default.seeds, default.model_names())


def test_settings_of_the_user_win_but_for_the_share() -> None:
    runs = study.planned(["train.epochs=2", "seeds=[1,2,3]"])
    for share, run in runs.items():
        settings = parameters.resolved(run.settings)
        assert (settings.train.epochs, settings.train.subsample, settings.seeds) == (2, share, [1, 2, 3])
    with pytest.raises(
        UserError, match=r"SET: train\.subsample is what learning-curve varies: 0\.25, 0\.5, 1\.0"
    ):
        study.planned(["train.subsample=0.1"])


def test_numbers(late_leads: Curve) -> None:
    """Accuracies, gains and their changes are those that the predictions were made with."""
    assert [size.groups for size in late_leads.sizes] == [[60] * 4, [120] * 4, [240] * 4]
    assert [size.scenes[0] for size in late_leads.sizes] == [20, 40, 80]
    for size in late_leads.sizes:
        for name, accuracy in size.accuracies.items():
            assert accuracy.mean == pytest.approx(LATE_LEADS[size.share][name], abs=0.012)
    for gain in late_leads.gains:
        known = LATE_LEADS[1.0][gain.what] - LATE_LEADS[0.25][gain.what]
        assert gain.claim.difference == pytest.approx(known, abs=0.015)
        assert gain.claim.difference == pytest.approx(gain.large - gain.small)
        assert gain.claim.interval and gain.claim.interval[0] < known < gain.claim.interval[1]
    assert [gain.what for gain in late_leads.gains] == MODELS
    for change, other in zip(late_leads.changes, ("concatenation", "addition", "hadamard"), strict=True):
        known = LATE_LEADS[0.25]["late"] - LATE_LEADS[0.25][other]
        assert (change.what, change.claim.outcome) == (f"late less {other}", "worse")
        assert (change.small, change.large) == (pytest.approx(known, abs=0.02), pytest.approx(0, abs=0.01))
        assert change.claim.p and change.claim.p_holm and change.claim.p <= change.claim.p_holm < 0.05


def test_late_leads_with_few_groups(late_leads: Curve) -> None:
    leads, changes, gains, sensors, *rest = answer.answer(late_leads)
    assert leads.startswith(
        "**Late fusion leads with 60 and 120 training groups; with 240, no fusion is shown to lead.** With 60 and "
        "120 groups: all other fusions are significantly worse than late. With 240 groups: late has the lowest "
        "validation loss; tied with late, within 3 points: concatenation, addition and hadamard."
    )
    assert changes.startswith(
        "**Late fusion's distance from other fusions depends on the number of groups.**"
    )
    assert "From 60 to 240 groups: significantly lower: late less concatenation (+" in changes
    assert gains.startswith(
        "**More groups help every model.** From 60 to 240 groups: significantly more accurate: rgb"
    )
    assert sensors.endswith("groups: every fusion is significantly better than LiDAR alone.")
    assert not any("Nothing can be claimed" in line or "did not train" in line for line in rest)


def test_all_tied(made_up: Callable[..., Curve]) -> None:
    leads, changes, gains, *_ = answer.answer(made_up(TIED, noise=0.02))
    assert leads.startswith(
        "**No fusion is shown to lead at any size.** With 60, 120 and 240 groups: late has"
    )
    assert "tied with late, within 3 points: concatenation, addition and hadamard." in leads
    assert changes.startswith("**Late fusion's distance from other fusions changes by less than 3 points.**")
    assert gains.startswith("**More groups change every model by less than 3 points.**")
    assert "significantly" not in leads + changes + gains


def test_nothing_decided(made_up: Callable[..., Curve]) -> None:
    """With much noise and few scenes nothing is claimed, and the page says what would decide it."""
    apart = {**EQUAL, "late": 0.95}
    curve = made_up({0.25: apart, 1.0: EQUAL}, noise=0.2, test_scenes=19)
    text = "\n".join(answer.answer(curve))
    assert (
        "**It is open whether late fusion's distance from other fusions depends on the number of groups.**"
        in text
    )
    assert "**It is not shown that more groups help.**" in text
    assert "**To decide what is open:** " in text and "more test scenes" in text
    assert "holds only 19 scenes; claims from so few are rough" in text
    assert "leads with" not in text


def test_one_size(made_up: Callable[..., Curve]) -> None:
    curve = made_up({1.0: EQUAL})
    assert not curve.gains and not curve.changes
    text = page.render(curve, ["seeds=[51]"])
    assert "**No fusion is shown to lead at this size.**" in text
    assert "With a single size, nothing can be said about more or fewer groups." in text
    assert "What changes" not in text and "| Balanced accuracy" not in text


def test_a_class_without_test_groups(made_up: Callable[..., Curve]) -> None:
    """Balanced accuracy is then the mean over the classes that occur."""
    curve = made_up(LATE_LEADS, test_labels=(0, 2))
    assert curve.sizes[0].accuracies["late"].mean == pytest.approx(0.9, abs=0.012)
    assert answer.answer(curve)[0].startswith("**Late fusion leads with 60 and 120 training groups;")


def test_two_seeds_claim_nothing(made_up: Callable[..., Curve]) -> None:
    curve = made_up(LATE_LEADS, seeds=(51, 52))
    first, *rest = answer.answer(curve)
    assert first.startswith("**Nothing can be claimed with 2 seeds:**") and not rest
    assert all(change.claim.outcome == "not decided" for change in [*curve.gains, *curve.changes])


def test_a_model_that_did_not_train(made_up: Callable[..., Curve]) -> None:
    """It is named, and nothing is claimed about it at this size or about its change."""
    curve = made_up({0.25: {**LATE_LEADS[0.25], "addition": 0.36}, 1.0: EQUAL})
    lines = answer.answer(curve)
    assert "**Seeds that did not train:** addition with 60 groups (51, 52, 53 and 54)." in lines[-1]
    assert lines[0].startswith("**No fusion is shown to lead at any size.**")
    claims = {change.what: change.claim.outcome for change in [*curve.gains, *curve.changes]}
    assert claims["addition"] == claims["late less addition"] == "not decided"
    assert claims["concatenation"] == "better" and claims["late less concatenation"] == "worse"


def test_runs_that_do_not_fit_together(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", EQUAL)
    other_data = write_run(tmp_path / "other-data", EQUAL, digest="another")
    with pytest.raises(UserError, match=r"other-data: data differ from those of .*one"):
        results.read({0.25: one, 1.0: other_data})
    other_seeds = write_run(tmp_path / "other-seeds", EQUAL, seeds=(51, 52, 53))
    with pytest.raises(UserError, match="other-seeds: seeds differ"):
        results.read({0.25: one, 1.0: other_seeds})


def test_files(late_leads: Curve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study.write(late_leads, ["seeds=[51,52,53,54]"])
    folder = tmp_path / study.FOLDER
    assert {path.name for path in folder.iterdir()} == {
        "report.md",
        "learning_curve.png",
        "learning_curve.json",
    }
    found = json.loads((folder / "learning_curve.json").read_text())
    quarter, _, whole = found["shares"]
    assert (quarter["share"], quarter["training_groups"], quarter["reference"]) == (0.25, 60, "late")
    late = whole["models"]["late"]
    assert late["interval"][0] < late["balanced_accuracy"] < late["interval"][1] and len(late["by_seed"]) == 4
    assert [claim["outcome"] for claim in quarter["against_reference"]] == ["worse"] * 3
    assert [change["claim"]["outcome"] for change in found["changes"]] == ["worse"] * 3
    text = (folder / "report.md").read_text()
    assert "| late          | 0." in text and "| late less hadamard      | +1" in text
    assert "](learning_curve.png)" in text and "`make learning-curve` in a clone" in text
    picture = folder / "learning_curve.png"
    assert picture.stat().st_size < 200_000
    with Image.open(picture) as image:
        assert image.width > 700 and len(image.getcolors(256) or []) > 20


def test_figure_shows_every_mark(late_leads: Curve) -> None:
    """No two marks of a size have the same place, ticks stand at the real numbers, labels do not overlap."""
    accuracies = {name: [size.accuracies[name] for size in late_leads.sizes] for name in MODELS}
    drawn = figure.accuracy_over_groups(accuracies, [60.0, 120.0, 240.0], [0.25, 0.5, 1.0], "accuracy", 0.95)
    axis = drawn.axes[0]
    marks = [line for line in axis.lines if line.get_linestyle() == "None"]
    places = np.array([line.get_xdata() for line in marks])
    assert places.shape == (6, 3) and (np.diff(np.sort(places, axis=0), axis=0) > 0.01).all()
    assert places.mean(axis=0) == pytest.approx(np.log2([60, 120, 240]))
    assert [label.get_text().split("\n")[0] for label in axis.get_xticklabels()] == ["60", "120", "240"]
    drawn.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in axis.texts]  # without the lines to the marks
    assert [text.get_text().split()[0] for text in axis.texts] == MODELS
    bottoms, tops = (np.sort([getattr(box, side) for box in boxes]) for side in ("y0", "y1"))
    assert (bottoms[1:] > tops[:-1]).all()
    figure.plt.close(drawn)


def test_figure_of_equal_sizes(late_leads: Curve) -> None:
    """Of data with so few scenes that shares draw the same ones, or of a single size."""
    for count in (1, 3):
        accuracies = {"late": [late_leads.sizes[0].accuracies["late"]] * count}
        drawn = figure.accuracy_over_groups(accuracies, [4.0] * count, [1.0] * count, "accuracy", 0.95)
        drawn.canvas.draw()
        assert len(drawn.axes[0].get_xticks()) == 1
        figure.plt.close(drawn)


def test_labels_are_spread_out() -> None:
    assert figure.spread_out(np.array([0.5, 0.1, 0.9]), 0.1) == pytest.approx([0.5, 0.1, 0.9])
    assert figure.spread_out(np.array([0.5, 0.5, 0.1]), 0.1) == pytest.approx([0.45, 0.55, 0.1])
    assert figure.spread_out(np.array([0.50, 0.52, 0.58]), 0.1).mean() == pytest.approx(0.16 / 3 + 0.48)
