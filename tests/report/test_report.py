"""The report of made-up results, from stored predictions to the page; no network is trained for it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.manifest import made_up_manifest

from stages import headline, report
from stages.lib import params
from stages.lib.comparison import compare
from stages.lib.comparison import results as comparison_results
from stages.lib.comparison.resampled import BASELINES
from stages.lib.comparison.results import trained_rates
from stages.lib.evaluation import decisions, metrics, predictions
from stages.lib.evaluation import results as evaluation_results
from stages.lib.evaluation.decisions import Decisions
from stages.lib.evaluation.predictions import Predictions
from stages.lib.evaluation.results import Cost, Evaluation, Probes
from stages.lib.lidar.returns import Losses
from stages.lib.models import records
from stages.lib.params import OwnSettings, Params
from stages.lib.report import format, tables
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.groups import CachedGroup
from stages.lib.tensors.manifest import Condition, Manifest, NearCopy

ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent / "golden"
KINDS = {"rgb": "unimodal", "lidar": "unimodal", "late": "late"}
CONCATENATION_WINS = {
    "rgb": 1.0,
    "lidar": 1.2,
    "concatenation": 3.2,
    "addition": 1.9,
    "hadamard": 1.6,
    "late": 1.9,
}


@dataclass(frozen=True)
class Results:
    """What a run might have found."""

    strengths: dict[str, float]  # by model: how far its logits lie from zero, on the right side
    num_seeds: int = 8
    classes: tuple[str, ...] = ("cubes", "spheres")
    num_scenes: dict[str, int] = field(default_factory=lambda: {"train": 60, "validation": 40, "test": 100})
    absent: str = ""  # class of which the test split has no group
    ignored: str = ""  # sensor that fusions make nothing of
    diverged: tuple[str, int] = ("", 0)  # model and seed whose predictions tell nothing
    per_model: dict[str, OwnSettings] = field(default_factory=dict)  # `train.per_model`

    def of_seed(self, name: str, seed: int) -> Results:
        """The same, for one seed of one model."""
        return (
            replace(self, strengths=self.strengths | {name: 0.0}) if self.diverged == (name, seed) else self
        )


MANY_SCENES = {"train": 60, "validation": 40, "test": 2000}


def write(results: Results, folder: Path) -> tuple[Params, Manifest]:
    """Writes all that comparison and report read, as the stages before them would."""
    settings = params.load(ROOT / "params.yaml")
    settings = replace(
        settings,
        seeds=list(range(results.num_seeds)),
        intermediate=[name for name in results.strengths if name not in KINDS],
        report=replace(settings.report, draws=1000),
        train=replace(settings.train, per_model=results.per_model),
    )
    generator = np.random.default_rng(0)
    groups = {
        split: [
            CachedGroup(
                split,
                f"{split}-{scene}-{label}",
                f"scene-{split}-{scene}",
                label,
                100,
                20.0,
                {"weather": weather(scene), "road": "a | b" if scene % 2 else "wet"},
            )
            for scene in range(count)
            for label, name in enumerate(results.classes)
            if not (split == "test" and name == results.absent)
        ]
        for split, count in results.num_scenes.items()
    }
    data = manifest_of(results, groups)
    (folder / "data/tensors").mkdir(parents=True)
    manifests.save(data, folder / "data/tensors")
    for name in (*settings.model_names(), *BASELINES):
        found = [
            Predictions(
                seed,
                split,
                groups[split],
                logits(results.of_seed(name, seed), name, groups[split], generator),
            )
            for seed in (settings.seeds if name in results.strengths else [0])
            for split in ("validation", "test")
            if groups[split]
        ]
        predictions.write(name, found)
        evaluation_results.write(evaluation(name, found, results, data.class_shares))
        if name in results.strengths:
            decisions.write(name, made_up_decisions(name, found, results, data.class_shares))
            write_training(name, settings)
    return settings, data


def weather(scene: int) -> str:
    return "snow" if scene % 50 == 7 else ("sun", "rain", "rain")[scene % 3]


def manifest_of(results: Results, groups: dict[str, list[CachedGroup]]) -> Manifest:
    counts = {
        split: {
            name: sum(group.label == label for group in members) for label, name in enumerate(results.classes)
        }
        for split, members in groups.items()
    }
    manifest = made_up_manifest(results.classes, counts, results.num_scenes)
    values = {"weather": ["rain", "sun", "snow"], "road": ["wet", "a | b"]}
    conditions = [Condition(name, own, None, ["rgb"], {}) for name, own in values.items()]
    return replace(manifest, conditions=conditions)


def test_single_sensor_is_the_more_accurate_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On validation; although it is so sure of itself that its loss is the greater."""
    monkeypatch.chdir(tmp_path)
    honest = logits

    def sure(results: Results, name: str, *others: Any) -> np.ndarray:
        return (20 if name == "lidar" else 1) * honest(results, name, *others)

    monkeypatch.setitem(globals(), "logits", sure)
    settings, data = write(Results({"rgb": 0.8, "lidar": 1.2, "concatenation": 2.0, "late": 1.5}), tmp_path)
    compared = compare.compare(settings, data)
    loss = {name: compared.models[name].metrics["validation"]["loss"].mean for name in ("rgb", "lidar")}
    assert loss["lidar"] > loss["rgb"] and compared.single == "lidar"


SIZES = {"rgb": 13_128_351, "lidar": 13_128_351, "concatenation": 13_015_851, "late": 26_256_743}


def logits(
    results: Results, name: str, groups: list[CachedGroup], generator: np.random.Generator
) -> np.ndarray:
    """Logits on the right side as far as the model is strong; the baselines' tell nothing."""
    labels = np.array([group.label for group in groups])
    num_classes = len(results.classes)
    strength = results.strengths.get(name, 0.0)
    spread = 1.0 if name in results.strengths else 0.0
    if num_classes == 2:
        signs = np.where(labels == 1, 1.0, -1.0)[:, None]
        return (strength * signs + spread * generator.normal(size=(len(labels), 1))).astype(np.float32)
    own = strength * np.eye(num_classes)[labels]
    return (own + spread * generator.normal(size=(len(labels), num_classes))).astype(np.float32)


def evaluation(name: str, found: list[Predictions], results: Results, shares: np.ndarray) -> Evaluation:
    kind = KINDS.get(name, "intermediate" if name in results.strengths else "baseline")
    size = SIZES.get(name, 6_615_851)
    trained = 41 if kind == "late" else size
    cost = Cost(*(5 * [None])) if kind == "baseline" else Cost(size, trained, size / 2**18, 119.9, 1000)
    sensors = [name] if kind == "unimodal" else ["rgb", "lidar"]
    clean = 0.9
    probes = Probes(
        clean=clean,
        missing={sensor: clean if sensor == results.ignored else 0.7 for sensor in sensors} | {"both": 0.5},
        shuffled={sensor: clean if sensor == results.ignored else 0.6 for sensor in sensors},
        corrupted={sensor: {"noise": {"0": clean, "1": 0.8, "3": 0.7, "5": 0.6}} for sensor in sensors},
    )
    seeds = {part.seed for part in found}
    return Evaluation(
        model=name,
        kind=kind,
        cost=cost,
        seeds=predictions.measure_seeds(found, shares),
        probes=dict.fromkeys(sorted(seeds), probes) if kind != "baseline" else {},
    )


def made_up_decisions(name: str, found: list[Predictions], results: Results, shares: np.ndarray) -> Decisions:
    """Those of the clean predictions; where a sensor is missing or noisy, some of them are drawn at random."""
    judged = found[-1].split
    parts = [part for part in found if part.split == judged]
    clean = np.stack([metrics.predicted(metrics.weighed(part.logits, shares)) for part in parts])
    generator = np.random.default_rng(1)
    decided = {"clean": clean}
    sensors = [name] if KINDS.get(name) == "unimodal" else ["rgb", "lidar"]
    for sensor in sensors:
        states = {"missing": 1.0} if name == sensor else {"missing": 0.5}
        states |= {"noise 1": 0.2, "noise 3": 0.4, "noise 5": 0.8}
        for state, share in states.items():
            at_random = generator.random(clean.shape) < (0 if sensor == results.ignored else share)
            decided[f"{sensor} {state}"] = np.where(
                at_random, generator.integers(len(results.classes), size=clean.shape), clean
            )
    decided["both missing"] = generator.integers(len(results.classes), size=clean.shape)
    return Decisions([part.seed for part in parts], [group.group for group in parts[0].groups], decided)


def write_training(name: str, settings: Params) -> None:
    Path("reports/history").mkdir(parents=True, exist_ok=True)
    Path("reports/timing").mkdir(parents=True, exist_ok=True)
    rows = [
        f"{epoch},{seed},0.001,{1 / epoch},{1.1 / epoch}" for seed in settings.seeds for epoch in (1, 2, 3)
    ]
    header = "epoch,seed,learning_rate,train_loss,valid_loss"
    Path(f"reports/history/{name}.csv").write_text("\n".join([header, *rows]) + "\n")
    timing: dict[str, Any] = {
        "model": name,
        "device": "cpu",
        "gpu": None,
        "cpu_cores": 2,
        "workers": 2,
        "threads": 1,
        "platform": "Linux",
        "revision": "0123abcd",
        "versions": {"python": "3.11", "torch": "2.13"},
        "seeds": {
            str(seed): {"epoch_s": [2.0, 2.5, 3.0], "peak_memory_mib": 800.0} for seed in settings.seeds
        },
    }
    Path(f"reports/timing/train-{name}.json").write_text(json.dumps(timing))
    records.write_timing(
        f"evaluate-{name}",
        {
            "latency_ms": 4.5,
            "latency_p95_ms": 5.5,
            "latency_32_ms": 60.0,
            "latency_32_p95_ms": 72.0,
            "device": "cpu",
            "threads": 1,
        },
    )


def render(results: Results, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page, as the stages `compare`, `headline` and `report` make it, but for the figures."""
    monkeypatch.chdir(folder)
    settings, data = write(results, folder)
    compared = compare.compare(settings, data)
    comparison_results.write(compared)
    assert comparison_results.read() == compared
    numbers = headline.headline(evaluation_results.read(settings.fusion))
    headline.METRICS.write_text(json.dumps(numbers))
    monkeypatch.setattr(params, "load", lambda: settings)
    report.main()
    return Path("reports/report.md").read_text()


EXAMPLES = {
    "clear-winner": Results(CONCATENATION_WINS),
    "tied": Results(dict.fromkeys(CONCATENATION_WINS, 2.0), num_scenes=MANY_SCENES),
    "none-learned": Results(dict.fromkeys(CONCATENATION_WINS, 0.0), num_seeds=4),
    "one-seed": Results(CONCATENATION_WINS, num_seeds=1),
    "diverged-seed": Results(CONCATENATION_WINS, num_seeds=4, diverged=("addition", 2)),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_golden_report(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of each example, and every word of one run's pages; `GOLDEN=1` accepts a change of them."""
    text = render(EXAMPLES[example], tmp_path, monkeypatch)
    texts = {f"{example}.md": text.split("## All models")[0]}
    if example == "clear-winner":
        pages = ("details.md", "cards/late.md", "cards/rgb.md")
        texts = {"report.md": text} | {page: Path("reports", page).read_text() for page in pages}
    for name, found in texts.items():
        if os.environ.get("GOLDEN"):
            (GOLDEN / name).parent.mkdir(exist_ok=True)
            (GOLDEN / name).write_text(found)
        assert found == (GOLDEN / name).read_text()


@pytest.mark.parametrize("page", ["report.md", "details.md"])
def test_no_table_is_wider_than_nine_columns(page: str) -> None:
    for text in (GOLDEN / page, ROOT / "reports" / page):
        tables = [line for line in text.read_text().splitlines() if line.startswith("|")]
        assert max(line.count("|") - 1 for line in tables) <= 9


def test_many_fusions_make_a_long_table_not_a_wide_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notebook's table, with an architecture in each row."""
    more = dict.fromkeys(("maximum", "mean", "gated"), 2.0)
    text = render(Results(CONCATENATION_WINS | more), tmp_path, monkeypatch)
    table = text.split("## The notebook's table\n\n")[1].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert cells[0] == [
        "Metrics", "Validation Loss", "Parameters (M)", "Training Time / epoch (s)", "GPU Memory (MB)",
    ]  # fmt: skip
    assert [row[0] for row in cells[2:]] == [
        "Intermediate Fusion (Concatenation)",
        "Intermediate Fusion (Addition)",
        "Intermediate Fusion (Hadamard)",
        "Intermediate Fusion (Maximum)",
        "Intermediate Fusion (Mean)",
        "Intermediate Fusion (Gated)",
        "Late Fusion",
    ]


def test_the_same_model_twice_is_no_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = render(Results(dict.fromkeys(CONCATENATION_WINS, 2.0)), tmp_path, monkeypatch)
    answer = text.split("## The notebook's table")[0]
    assert "significantly better" not in answer and "significantly worse" not in answer
    assert "fusing paid" not in answer


def test_one_seed_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = render(Results(CONCATENATION_WINS, num_seeds=1), tmp_path, monkeypatch)
    assert "Nothing can be claimed with 1 seed" in text
    tables = text.split("## Which differences are significant")[1].split("## Cost")[0]
    assert (
        tables.count("| open ") == 7 and "better" not in tables.split("Differences are")[0].split("*Read")[0]
    )


def test_a_single_scene_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = render(
        Results(CONCATENATION_WINS, num_scenes={"train": 9, "validation": 1, "test": 1}),
        tmp_path,
        monkeypatch,
    )
    assert "nan" not in text.lower()
    assert "holds a single scene" in text and "significantly" not in text
    assert "| better than the class prior" not in text


@pytest.mark.parametrize(
    ("classes", "absent"), [(("cubes", "spheres"), "spheres"), (("car", "person", "truck"), "person")]
)
def test_class_that_the_test_split_lacks(
    classes: tuple[str, ...], absent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = render(Results(CONCATENATION_WINS, classes=classes, absent=absent), tmp_path, monkeypatch)
    assert "nan" not in text.lower()
    # Nothing ranks samples of a single class: two metrics of six models and two baselines.
    details = Path("reports/details.md").read_text()
    assert details.count("not defined") == (16 if len(classes) == 2 else 0)


def test_no_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = render(
        Results(CONCATENATION_WINS, num_scenes={"train": 60, "validation": 40, "test": 0}),
        tmp_path,
        monkeypatch,
    )
    assert "no test split" in text and "nan" not in text.lower()
    assert "The test split had no say" not in text


def test_an_ignored_sensor_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = render(Results(CONCATENATION_WINS, ignored="lidar"), tmp_path, monkeypatch)
    assert "concatenation ignores LiDAR" in text.split("## The notebook's table")[0]
    assert text.count("ignores LiDAR") >= 8


def robustness_of(text: str) -> str:
    return text.split("## Robustness")[1].split("## Errors")[0]


def test_rates_beyond_training_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the samples that miss a sensor in training, each sensor misses half."""
    results = Results(CONCATENATION_WINS, num_seeds=2)
    monkeypatch.chdir(tmp_path)
    settings, data = write(results, tmp_path)
    augment = replace(settings.train.augment, sensor_dropout=0.4)
    trained = replace(settings, train=replace(settings.train, augment=augment))
    compared = compare.compare(trained, data)
    assert compared.sensor_dropout == 0.4
    rows = tables.models(compared, {})
    headers = {
        case: tables.failures(rows, case, rate)[0].splitlines()[0]
        for case, rate in trained_rates(compared.sensor_dropout).items()
    }
    assert "| 10%   | 25%, beyond   | 50%, beyond" in headers["lidar"]
    assert "| 25%   | 50%, beyond" in headers["either"]
    untrained = tables.failures(rows, "rgb", 0.0)[0]
    assert "beyond" not in untrained and "| 100%" in untrained


def test_shares_have_intervals_and_late_scans_are_excused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = robustness_of(render(Results(CONCATENATION_WINS, num_seeds=3), tmp_path, monkeypatch))
    corrupted = [line for line in text.splitlines() if line.startswith("| concatenation") and "(" in line]
    assert len(corrupted) == 2
    for line in corrupted:
        assert len(re.findall(r"\d\.\d\d \(\d\.\d\d to \d\.\d\d\)", line)) == 2  # the mean, and noise
    assert text.count("*Late scan* was left out") == 1
    assert "No model missed a sensor in training" in text
    assert "best" not in text and "significant" not in text


def test_names_of_users_stay_as_they_are_written() -> None:
    """Bars and line breaks would break tables, and other marks of Markdown would vanish."""
    names = ("car|van", "_new_", "a\nb", "$5 $10", "<b>", "sedan")
    manifest = made_up_manifest(names, {"train": dict.fromkeys(names, 3)} | NO_GROUPS, {"train": 2})
    head, rule, *_ = tables.groups(manifest).splitlines()
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", head.strip("|"))]
    assert len(cells) == rule.strip("|").count("|") + 1
    assert cells == ["Groups", r"car\|van", r"\_new\_", "a b", r"\$5 \$10", r"\<b\>", "sedan", "Scenes"]
    assert format.escaped("see dataset.lidar.max_range_m") == "see dataset.lidar.max_range_m"
    assert format.code("data/`x`") == "data/'x'"


def test_returns_that_were_lost_are_in_a_table() -> None:
    manifest = made_up_manifest(("a", "b"), {"train": {"a": 3, "b": 3}} | NO_GROUPS, {"train": 2})
    assert tables.returns(manifest) == ""
    losses = Losses(stored=2000, beyond_range=500, merged=100, not_finite=1)
    *_, row = tables.returns(replace(manifest, returns={"train": losses.counts()})).splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["train", "2,000", "70.0%", "25.0%", "0.0%", "5.0%", "0.1%"]


def test_near_copies_and_doubtful_labels_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two flipped labels of the test split, which all models are sure of, and two near copies."""
    honest, flipped = logits, ("test-3-0", "test-5-1")

    def sure(results: Results, name: str, groups: list[CachedGroup], *others: Any) -> np.ndarray:
        right = [
            replace(group, label=1 - group.label) if group.group in flipped else group for group in groups
        ]
        return (5 if name in results.strengths else 1) * honest(results, name, right, *others)

    def with_copies(results: Results, groups: dict[str, list[CachedGroup]]) -> Manifest:
        copies = [
            NearCopy("test|1", "test", "train-1-0", "train", 0.0123, 0.0456),
            NearCopy("validation-1-0", "validation", "train-1-0", "train", 0.02, None),
        ]
        counts = {"test": {"train": 1}, "validation": {"train": 150}}
        return replace(made(results, groups), near_copies=copies, near_copy_counts=counts)

    made = manifest_of
    monkeypatch.setitem(globals(), "logits", sure)
    monkeypatch.setitem(globals(), "manifest_of", with_copies)
    strengths = dict.fromkeys(CONCATENATION_WINS, 6.0)
    text = render(Results(strengths, num_seeds=2), tmp_path, monkeypatch)
    assert "2 labels of the validation and test splits may be wrong" in text
    counted = (
        "1 test group with a near copy in the train split; 150 validation groups with a near copy in the"
    )
    assert counted in text
    details = Path("reports/details.md").read_text()
    assert counted in details and "(figures/near_copies.png)" in details
    assert r"| test\|1 " in details and "| 0.012 " in details and "| 0.046 " in details
    section = details.split("## Doubtful labels")[1].split("\n## ")[0]
    assert "Test: 12 of 12 nets are right often enough to judge; they doubt 2 labels." in section
    rows = [line for line in section.splitlines() if line.startswith("| test-")]
    assert {row.split("|")[1].strip() for row in rows} == set(
        flipped
    ) and "(figures/label_errors.png)" in section
    assert all("12 of 12" in row and "suspicion" in section for row in rows)


def test_nets_that_learned_nothing_judge_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = render(Results(dict.fromkeys(CONCATENATION_WINS, 0.0), num_seeds=2), tmp_path, monkeypatch)
    assert "may be wrong" not in text
    details = Path("reports/details.md").read_text()
    assert "no label was judged, because none of 12 nets is right often enough" in details
    assert "label_errors.png" not in details and "near_copies.png" not in details


NO_GROUPS: dict[str, dict[str, int]] = {"validation": {"none": 0}, "test": {"none": 0}}
