from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report.test_answer import made_up
from support.manifest import made_up_manifest

from scripts.studies import parameters
from scripts.studies.tune import comparison, figure, grid, page, search, study
from scripts.studies.tune.comparison import Tuning
from scripts.studies.tune.experiments import Queue
from scripts.studies.tune.grid import Grid, Point
from scripts.studies.tune.pace import Pace
from stages.lib import params
from stages.lib.comparison import results
from stages.lib.core.errors import UserError
from stages.lib.evaluation import predictions
from stages.lib.evaluation.predictions import Predictions
from stages.lib.params import OwnSettings
from stages.lib.statistics.results import Contrast
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.groups import CachedGroup

NAMES = ("rgb", "lidar", "concatenation", "addition", "late")
NO_HEADS = dict.fromkeys(NAMES, False) | {"late": True}
WEIGHTS = dict.fromkeys(NAMES, True)
# Right answers by seed, on two samples of each of four scenes: the worked example of the two-way analysis.
A = ["11111101", "11101111", "11111111", "11110111"]
B = ["10110101", "00101111", "10110011", "11010110"]
LABELS = [0, 1] * 4


def default_grid(**own: tuple[float, ...]) -> Grid:
    given, _ = grid.split([f"tune.{key}=[{','.join(map(str, values))}]" for key, values in own.items()])
    return grid.build(params.load().train, given)


SPACE = Grid(
    tuple(Point(rate, 40 * rate, decay) for decay in (0.0, 1.0) for rate in (0.001, 0.002, 0.004)),
    Point(0.002, 0.08, 0.0),
)
LOW, MIDDLE, HIGH, LOW_DECAY, MIDDLE_DECAY, HIGH_DECAY = SPACE.points


def test_the_grid_surrounds_the_default_settings() -> None:
    space = default_grid()
    train = params.load().train
    assert space.default == Point(train.learning_rate, train.late.learning_rate, train.weight_decay)
    assert space.default in space.points
    assert {point.learning_rate for point in space.points} == {0.0004, 0.0012, 0.0036}
    assert {point.late_learning_rate for point in space.points} == {0.0133, 0.04, 0.12}
    assert {point.weight_decay for point in space.points} == {0.0, 1.0}
    assert len({point.name for point in space.points}) == 6


def test_the_default_is_a_point_of_every_grid() -> None:
    space = default_grid(factors=(2,), weight_decays=(0.5,))
    assert space.default in space.points
    assert len(space.points) == 4


def test_settings_of_the_search_are_kept_apart() -> None:
    own, rest = grid.split(["train.epochs=2", "tune.factors=[0.5,1,2]", "late=[late]"])
    assert rest == ["train.epochs=2", "late=[late]"]
    assert own == {"tune.factors": (0.5, 1.0, 2.0), "tune.weight_decays": grid.WEIGHT_DECAYS}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("tune.factor=[1]", "unknown setting 'tune.factor'; those of the search are tune.factors"),
        ("tune.factors=[0,1]", r"tune\.factors: '\[0,1\]' is no list of numbers above zero"),
        ("tune.factors=3", "is no list"),
        ("tune.factors=[]", "is no list"),
        ("tune.weight_decays=[-1]", "is no list of numbers not below zero"),
        ("tune.weight_decays=[NaN]", "is no list"),
        ("tune.weight_decays=[0", "is no list"),
    ],
)
def test_wrong_settings_of_the_search_are_named(override: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        grid.split([override])


def losses(**by_place: list[float]) -> dict[Point, np.ndarray]:
    return {SPACE.points[int(place[1:])]: np.array(values) for place, values in by_place.items()}


def test_the_lowest_mean_over_seeds_is_chosen() -> None:
    # p0 has the lowest single loss, p2 the lowest mean.
    found = losses(p0=[0.1, 0.9], p1=[0.5, 0.6], p2=[0.4, 0.5], p3=[0.6, 0.6])
    assert grid.choose(found, MIDDLE) == HIGH


def test_equal_losses_leave_the_default() -> None:
    assert grid.choose(losses(p0=[0.3, 0.5], p1=[0.5, 0.3], p2=[0.4, 0.4]), MIDDLE) == MIDDLE


def test_a_diverged_seed_rules_a_point_out() -> None:
    assert grid.choose(losses(p0=[0.1, np.inf], p1=[0.5, 0.5]), MIDDLE) == MIDDLE
    assert grid.choose(losses(p0=[0.9, 0.9], p1=[np.inf, 0.1]), MIDDLE) == LOW
    assert grid.choose(losses(p0=[np.inf, np.inf], p1=[np.inf, np.inf]), MIDDLE) == MIDDLE


def test_each_seed_counts_at_its_best_epoch() -> None:
    history = np.array([[0.9, 0.4, 0.6], [0.7, np.nan, np.nan], [np.nan, np.nan, np.nan]])
    assert search.best_losses(history).tolist() == [0.4, 0.7, np.inf]


@pytest.mark.parametrize(
    ("point", "ends"),
    [
        (LOW, ["lowest learning rate"]),
        (MIDDLE, []),
        (HIGH_DECAY, ["highest learning rate", "highest weight decay"]),
        (MIDDLE_DECAY, ["highest weight decay"]),
    ],
)
def test_points_at_the_edge_of_the_grid(point: Point, ends: list[str]) -> None:
    assert grid.edges(point, SPACE.points) == ends


def test_a_grid_of_one_value_has_no_edge() -> None:
    assert grid.edges(MIDDLE, [MIDDLE]) == []


def test_the_search_has_seeds_of_its_own() -> None:
    assert study.search_seeds([51, 52, 53]) == [0, 1]
    assert study.search_seeds([0, 2, 51]) == [1, 3]


def test_chosen_points_become_settings_of_single_models(tmp_path: Path) -> None:
    """Also where params.yaml has such settings already; heads get a learning rate of their own."""
    shutil.copy2("params.yaml", tmp_path)
    chosen = {"rgb": MIDDLE, "addition": HIGH_DECAY, "late": LOW}
    for _ in range(2):
        parameters.apply(study.own_settings(chosen, SPACE, NO_HEADS), tmp_path)
        assert params.load(tmp_path / "params.yaml").train.per_model == {
            "addition": OwnSettings(learning_rate=0.004, weight_decay=1.0),
            "late": OwnSettings(learning_rate=0.04, weight_decay=0.0),
        }
    parameters.apply(study.own_settings({"rgb": MIDDLE}, SPACE, NO_HEADS), tmp_path)
    assert params.load(tmp_path / "params.yaml").train.per_model == {}


def test_nothing_is_chosen_without_weights(tuning: Tuning) -> None:
    assert not study.has_weights("late_mean")
    assert all(study.has_weights(name) for name in (*NAMES, "late_finetuned", "late_product"))
    late = replace(tuning.models["late"], has_weights=False)
    text = page.render(replace(tuning, models={**tuning.models, "late": late}), "")
    ranking, searched = (part.splitlines() for part in text.split("## The search"))
    row = next(line for line in ranking if line.startswith("| late "))
    assert [cell.strip() for cell in row.split("|")[2:4]] == ["-", "-"]
    assert "**" not in next(line for line in searched if line.startswith("| late "))
    assert "Nothing is chosen for late, where only the networks have weights" in text


def test_the_cost_is_told_before_the_start() -> None:
    settings = parameters.resolved(["intermediate=[addition]", "late=[late]", "seeds=[51,52,53]"])
    text = study.cost(settings, SPACE)
    assert "48 trainings in the search (4 models x 6 points x 2 seeds)" in text
    assert "12 with the default settings and at most 12 with each model's own (4 models x 3 seeds)" in text


def test_only_divergence_leaves_a_model_out() -> None:
    told = (
        "epoch 1, batch 2 of 3: the training loss is nan; try a lower train.learning_rate, or train.clip_norm"
    )
    log = f"Running stage 'train_intermediate@hadamard':\nerror: hadamard, seed 0: {told}\nERROR: failed\n"
    assert search.diverged_model(log) == "hadamard"
    assert search.diverged_model(log.replace(told, "out of memory; try a smaller train.batch_size")) is None


class DyingWorkers(Queue):
    """A queue without DVC: each worker that starts does as many experiments as it is told, and is gone."""

    def __init__(self, experiments_of_workers: Sequence[int]) -> None:
        self.counts = list(experiments_of_workers)
        self.waiting: list[str] = []
        self.succeeded: dict[str, str] = {}

    def add(self, name: str, settings: Sequence[str], targets: Sequence[str]) -> None:
        if name not in self.waiting:
            self.waiting.append(name)

    def start(self, count: int) -> None:
        for _ in range(self.counts.pop(0)):
            self.succeeded[self.waiting.pop(0)] = "a commit"

    def done(self) -> dict[str, str]:
        return dict(self.succeeded)

    def failed(self) -> set[str]:
        return set()

    def is_worked_on(self) -> bool:
        return False

    def running(self) -> dict[str, Path]:
        return {}

    def stop(self) -> None:
        pass


def test_workers_that_end_early_are_started_again_while_points_get_done() -> None:
    queue = DyingWorkers([1, 0, 0, 1, 0, 1, 1, 1, 1])
    search.Search(queue, SPACE.points, {"addition": "intermediate"}, 1).work_off()
    assert set(queue.done()) == {point.name for point in SPACE.points}
    assert queue.counts == []


def test_three_workers_in_a_row_that_do_nothing_end_the_search() -> None:
    queue = DyingWorkers([1, 0, 0, 0, 1])
    with pytest.raises(UserError, match=f"ended 3 times before {SPACE.points[1].name} was done"):
        search.Search(queue, SPACE.points, {"addition": "intermediate"}, 1).work_off()
    assert queue.counts == [1]


def test_time_left_leaves_out_what_the_cache_gave() -> None:
    pace = Pace()
    counts = [(0, 0.0), (5, 13.0), (6, 73.0), (2, 100.0), (7, 133.0), (9, 163.0)]
    changed = [pace.update(finished, now_s) for finished, now_s in counts]
    assert changed == [True, True, True, False, True, True]
    assert pace.left_s(19) == 60.0 * 10
    assert Pace().left(19) == ""


def logits(right: str) -> np.ndarray:
    signs = [
        (1 if label else -1) * (1 if mark == "1" else -1) for label, mark in zip(LABELS, right, strict=True)
    ]
    return np.array(signs, dtype=float)[:, None]


def write_run(
    folder: Path, accuracies: Mapping[str, float], answers: Mapping[str, list[str]], **made: object
) -> None:
    """What the study reads of a run."""
    groups = [CachedGroup("test", f"g{i}", f"s{i // 2}", label, 9, 5.0) for i, label in enumerate(LABELS)]
    counts = {split: {"cubes": 4, "spheres": 4} for split in ("train", "validation", "test")}
    (folder / "data" / "tensors").mkdir(parents=True)
    (folder / "reports").mkdir()
    with chdir(folder):
        manifests.save(
            made_up_manifest(("cubes", "spheres"), counts, dict.fromkeys(counts, 4)), manifests.FOLDER
        )
        results.write(made_up({**accuracies, "prior": 0.5}, num_seeds=4, num_scenes=4, **made))
        for name, marks in answers.items():
            predictions.write(
                name, [Predictions(i, "test", groups, logits(mark)) for i, mark in enumerate(marks)]
            )


DEFAULT = {"rgb": 0.8, "lidar": 0.7, "concatenation": 0.95, "addition": 0.9, "late": 0.85}
CHOSEN = {"rgb": LOW, "lidar": MIDDLE, "concatenation": MIDDLE, "addition": HIGH_DECAY, "late": MIDDLE}


@pytest.fixture
def tuning(tmp_path: Path) -> Tuning:
    """Addition and late fusion got better, late fusion by its networks; addition took the lead."""
    folders = {run: tmp_path / run for run in comparison.RUNS}
    worse = dict.fromkeys(("addition", "late"), "worse")
    write_run(folders["default"], DEFAULT, dict.fromkeys(NAMES, B), outcomes=worse)
    accuracies = DEFAULT | {"addition": 0.97, "late": 0.95}
    answers = dict.fromkeys(NAMES, B) | {"addition": A, "late": A}
    write_run(folders["tuned"], accuracies, answers, outcomes={"concatenation": "tied", "late": "worse"})
    found = {
        name: {point: np.full(2, 0.3 if point == CHOSEN[name] else 0.4) for point in SPACE.points}
        for name in NAMES
    }
    found["addition"][LOW] = np.array([0.2, np.inf])
    return comparison.compare(folders, found, CHOSEN, SPACE, [4, 5], NO_HEADS, WEIGHTS)


def test_gains_are_those_of_the_two_way_analysis(tuning: Tuning) -> None:
    gain = tuning.models["addition"].gain
    assert isinstance(gain, Contrast)
    assert gain.difference == pytest.approx(0.28125)
    assert gain.se == pytest.approx(0.102592, abs=1e-6)
    assert gain.interval == pytest.approx((-0.045244, 0.607744), abs=1e-6)
    assert gain.p == pytest.approx(0.071252, abs=1e-6)
    assert gain.p_holm == pytest.approx(2 * 0.071252, abs=2e-6)  # concatenation is no part of the family
    assert gain.outcome == "not decided"
    assert not isinstance(tuning.models["rgb"].gain, Contrast)


def test_ranks_before_and_after(tuning: Tuning) -> None:
    ranks = {name: (model.default.rank, model.tuned.rank) for name, model in tuning.models.items()}
    assert ranks == {
        "rgb": (None, None),
        "lidar": (None, None),
        "concatenation": (1, 2),
        "addition": (2, 1),
        "late": (3, 2),
    }
    assert tuning.order == ["addition", "concatenation", "late", "rgb", "lidar"]


def test_a_late_fusion_changes_with_its_networks(tuning: Tuning) -> None:
    assert [name for name, model in tuning.models.items() if model.is_same] == ["lidar", "concatenation"]


def test_the_file_holds_all_of_it(tuning: Tuning, tmp_path: Path) -> None:
    comparison.write(tuning, tmp_path / "tune.json")
    assert comparison.read(tmp_path / "tune.json") == tuning


def test_the_page_shows_both_rankings(tuning: Tuning) -> None:
    text = page.render(tuning, "The last line.")
    assert "**In front with the default settings:** concatenation (concatenation has the lowest" in text
    assert (
        "**In front with each model's own settings:** addition and concatenation (addition has the lowest"
        in text
    )
    assert "Of those in front, addition joined. Each run compares" in text
    row = next(line for line in text.splitlines() if line.startswith("| addition "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "addition",
        "0.002 → 0.004",
        "0 → 1",
        "0.900 (0.880 to 0.920)",
        "0.970 (0.950 to 0.990)",
        "2 → 1",
        "+28.1 (\N{MINUS SIGN}4.5 to +60.8)",
        "0.143",
        "open",
    ]
    late = next(line for line in text.splitlines() if line.startswith("| late "))
    assert "| 0.08 " in late, "the learning rate of its head"
    assert "| trained alike" in next(
        line for line in text.splitlines() if line.startswith("| concatenation ")
    )
    assert "| not tested" in next(line for line in text.splitlines() if line.startswith("| rgb "))
    searched = text[text.index("## The search") :]
    row = next(line for line in searched.splitlines() if line.startswith("| addition "))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *["addition", "diverged", "0.400", "0.400", "0.400", "0.400", "**0.300**"]
    ]
    assert text.endswith(
        "  per_model:\n"
        "    rgb: {learning_rate: 0.001, weight_decay: 0}\n"
        "    addition: {learning_rate: 0.004, weight_decay: 1}\n"
        "```\n\nThe last line.\n"
    )


def test_the_page_warns_of_edges(tuning: Tuning) -> None:
    text = page.at_edges(tuning)
    assert (
        "lowest learning rate: rgb; highest learning rate: addition; highest weight decay: addition." in text
    )
    inside = {name: replace(model, edges=[]) for name, model in tuning.models.items()}
    assert page.at_edges(replace(tuning, models=inside)) == ""


def test_no_fusion_is_in_front_of_a_run_that_learned_nothing(tuning: Tuning) -> None:
    nothing = replace(tuning.fronts["default"], beats_prior=False)
    half = replace(tuning, fronts={**tuning.fronts, "default": nothing})
    text = page.fronts(half)
    assert (
        "default settings:** none, since even concatenation is not shown to be better than the class prior"
        in text
    )
    assert "own settings:** addition and concatenation (" in text
    assert page.moved(half) == ""


def with_outcomes(tuning: Tuning, **outcomes: str) -> Tuning:
    models = dict(tuning.models)
    for name, outcome in outcomes.items():
        gain = models[name].gain
        assert isinstance(gain, Contrast)
        models[name] = replace(models[name], is_same=False, gain=replace(gain, outcome=outcome))
    return replace(tuning, models=models)


def test_the_page_claims_what_was_decided(tuning: Tuning) -> None:
    decided = with_outcomes(tuning, addition="better", late="worse", concatenation="tied")
    text = page.what_changed(decided)
    assert "**Significantly better with own settings:** addition, +28.1 points" in text
    assert "**Significantly worse with own settings:** late, " in text
    assert page.what_did_not(decided) == "Tied, within 3 points: concatenation."


def test_the_page_claims_nothing_that_was_not(tuning: Tuning) -> None:
    changed = page.what_changed(tuning)
    assert changed == "**No fusion is shown to be better or worse with its own settings.**"
    text = page.what_did_not(tuning)
    assert "Not decided: addition, +28.1 points" in text
    assert "Trained alike in both runs, because the search chose the default: concatenation." in text
    few = page.what_changed(replace(tuning, seeds=[0, 1]))
    assert few == "**Nothing can be claimed** about the gain by tuning with 2 seeds."
    assert "**There is no test split.**" in page.render(replace(tuning, split="validation"), "")
    assert "no test split" not in page.render(tuning, "")


def test_nothing_is_claimed_about_a_model_with_a_failed_seed(tmp_path: Path) -> None:
    folders = {run: tmp_path / run for run in comparison.RUNS}
    write_run(
        folders["default"], DEFAULT, {name: ["00000000", *B[1:]] for name in NAMES}, failed={"addition": [0]}
    )
    write_run(folders["tuned"], DEFAULT, {name: ["11111111"] * 4 for name in NAMES})
    found = {name: dict.fromkeys(SPACE.points, np.full(2, 0.4)) for name in NAMES}
    chosen = dict.fromkeys(NAMES, HIGH)
    tuning = comparison.compare(folders, found, chosen, SPACE, [4, 5], NO_HEADS, WEIGHTS)
    gain = tuning.models["addition"].gain
    assert isinstance(gain, Contrast) and gain.outcome == "not decided"
    assert "addition (default settings: 0). Nothing is claimed" in page.failed_seeds(tuning)


def test_the_figure_is_small(tuning: Tuning, tmp_path: Path) -> None:
    figure.save(tuning, tmp_path)
    assert (tmp_path / figure.NAME).stat().st_size < 200_000
    assert Image.open(tmp_path / figure.NAME).width > 600
