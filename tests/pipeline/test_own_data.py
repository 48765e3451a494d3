"""A user's own dataset, and `make notebook` and `make zoo` beside the committed run."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.datasets import write_dataset
from support.processes import work_off_queue
from support.project import Project
from support.studies import mark_environment_ready, own_settings

from scripts.studies import notebook
from stages.headline import TEST_METRICS
from stages.lib import fusions


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


@pytest.mark.sweep
def test_own_dataset_in_one_command(clone: Project, tmp_path: Path) -> None:
    """The whole pipeline by DVC; `make notebook` below uses another own dataset, in a clone."""
    output = clone.run("dvc", "exp", "run", *own_dataset(tmp_path), "headline", "report").stdout
    ran = stages_run(output)
    assert "synthesize" not in ran and "export" in ran and "train_late@late" in ran
    assert "3 classes (ball, cone, cube)" in clone.text("reports/report.md")


def own_dataset(folder: Path) -> list[str]:
    """Writes three classes, grey images, no scenes, other names; returns the options that DVC needs for it."""
    names = {"mode": "L", "slices": ("camera", "velodyne"), "label_field": "kind"}
    overrides = [
        f"dataset.path={write_dataset(folder / 'mine', groups=45, **names)}",
        "dataset.rgb.slice=camera",
        "dataset.lidar.slice=velodyne",
        "dataset.label_field=kind",
        "dataset.scene_field=null",
    ]
    return [word for override in overrides for word in ("-S", override)]


@pytest.mark.sweep
def test_a_queue_finds_a_dataset_that_nothing_tracks(clone: Project) -> None:
    """In data/, which Git ignores, so that DVC's copies of the project lack it; also when `check` ran before."""
    write_dataset(clone.path("data/mine"))
    own = {"path": "data/mine", "scene_field": None, "lidar.orientation": "as-is"}
    clone.set(**{f"dataset.{key}": value for key, value in own.items()}, **{"export.image_size": 16})
    clone.run("dvc", "repro", "check")
    clone.run("git", "checkout", "params.yaml")
    values = ["dataset.path=data/mine", "dataset.scene_field=null", "dataset.lidar.orientation=as-is"]
    options = [word for value in [*values, "export.image_size=16,24"] for word in ("-S", value)]
    clone.run("dvc", "exp", "run", "--queue", *options, "export")
    work_off_queue(clone, 2)


def test_own_dataset_needs_no_other(clone: Project, tmp_path: Path) -> None:
    """One command exports it and trains a model of its sizes; the built-in dataset is not made."""
    overrides = own_dataset(tmp_path)
    output = clone.run("dvc", "exp", "run", *overrides, "train_unimodal@rgb").stdout
    assert stages_run(output) == ["check", "export", "train_unimodal@rgb"]
    manifest = json.loads(clone.text("data/tensors/manifest.json"))
    assert manifest["classes"] == ["ball", "cone", "cube"]
    metadata = json.loads(clone.text("models/rgb/seed-51.json"))
    assert metadata["architecture"]["num_logits"] == 3 and metadata["architecture"]["rgb_channels"] == 1


def test_real_data_of_seven_classes(run_in_process: Callable[..., Project], pandaset: Path) -> None:
    project = run_in_process(
        dataset__path=str(pandaset),
        dataset__lidar__orientation="as-is",
        intermediate=["addition"],
        fusion="addition",
        seeds=[0],
        evaluate__severities=[],
    )
    # Two of the seven occur in no training group, which the report has to mention.
    assert project.text("reports/report.md").count("has no training group") == 2
    metrics = json.loads(project.text("reports/metrics.json"))
    assert {f"test_{name}" for name in TEST_METRICS} <= metrics.keys()
    manifest = json.loads(project.text("data/tensors/manifest.json"))
    assert len(manifest["classes"]) == 7 and manifest["channels"]["rgb"] == 3


def test_without_a_test_split(run_in_process: Callable[..., Project], tmp_path: Path) -> None:
    """Like the notebook's data: training and validation groups as tagged, and no test metrics."""
    folder = write_dataset(tmp_path / "mine", splits=("train", "train", "validation"))
    project = run_in_process(dataset__path=str(folder), seeds=[0], evaluate__severities=[])
    metrics = json.loads(project.text("reports/metrics.json"))
    assert list(metrics) == ["val_loss", "parameters_m"]
    report = project.text("reports/report.md")
    assert "There is no test split" in report and "numbers are too optimistic" in report
    assert "no field 'scene' (dataset.scene_field)" in report
    with project.path("reports/comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["test_loss"] == "" and float(row["val_loss"]) > 0 for row in rows)


def test_kinds_of_fusion_side_by_side(run_in_process: Callable[..., Project]) -> None:
    """Early, intermediate and late, also with trained networks and without weights, all of one size."""
    joint, late = ["concatenation", "early", "mmtm"], ["late", "late_finetuned", "late_mean"]
    project = run_in_process(
        seeds=[0],
        intermediate=joint,
        late=late,
        network__fuse_after=2,
        network__match_parameters=True,
        evaluate__permutations=2,
        evaluate__severities=[],
    )
    check_kinds(project.path("reports"), joint, late)


def check_kinds(reports: Path, joint: list[str], late: list[str]) -> None:
    """Checks the comparison of these fusions, of one size and with one seed."""
    with (reports / "comparison.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert [name for name in rows if rows[name]["kind"] in fusions.KINDS] == [*joint, *late]
    assert rows["early"]["kind"] == "early" and rows["mmtm"]["kind"] == "intermediate"
    assert rows["late_finetuned"]["parameters"] == rows["late"]["parameters"]
    models = json.loads((reports / "statistics.json").read_text())["models"]
    assert models["late_mean"]["trainable_parameters"] == 0
    assert models["late_finetuned"]["trainable_parameters"] == models["late_finetuned"]["parameters"]
    assert models["late_finetuned"]["metrics"] != models["late"]["metrics"]
    report = (reports / "report.md").read_text()
    assert "Nothing can be claimed with 1 seed" in report and "Early Fusion" in report
    assert "Units of the heads' first layer" in report


def test_each_seed_draws_its_own_training_scenes(run_in_process: Callable[..., Project]) -> None:
    """With sensor dropout, also in late fusion's head, and with the number of steps that a half needs."""
    project = run_in_process(
        intermediate=["concatenation"],
        evaluate__severities=[],
        train__subsample=0.5,
        train__min_steps=6,
        train__late__min_steps=8,
        train__augment__sensor_dropout=0.5,
    )
    for name, epochs in {"rgb": 3, "concatenation": 3, "late": 4}.items():  # half of 20 groups are two steps
        for seed in (0, 51):
            stored = json.loads(project.text(f"models/{name}/seed-{seed}.json"))
            assert len(stored["train_loss"]) == epochs
            assert stored["recipe"]["subsample"] == 0.5
    report = project.text("reports/report.md")
    assert "Each seed trains on its own draw of 50% of the training scenes" in report
    assert "3 epochs, because 2 would be fewer than 6 steps" in report
    assert "fusions missed each sensor on 25% of the samples" in report


@pytest.mark.sweep
def test_zoo(clone: Project) -> None:
    """`make zoo` trains, evaluates and compares fusions of all kinds, beside the committed run."""
    mark_environment_ready(clone)
    joint, late = ["concatenation", "early", "mmtm"], ["late", "late_finetuned", "late_mean"]
    selected = f"intermediate=[{','.join(joint)}] late=[{','.join(late)}]"  # instead of all, to save time
    # A head so wide that one unit more or less is below 1 % of the parameters.
    sizes = "network.fuse_after=2 network.match_parameters=true network.hidden=[256,8]"
    settings = f"SET=seeds=[0] {sizes} {selected}"
    output = clone.run("make", "zoo", settings).stdout
    # The report stands after the main run, which answers; each variant adds to it.
    told = [
        "zoo: reports/zoo/report.md shows 1 run of 3",
        "zoo: run 2 of 3 ",
        "zoo: reports/zoo/report.md shows 2 runs of 3",
        "zoo: run 3 of 3 ",
        "wrote reports/zoo/report.md",
    ]
    places = [output.index(text) for text in told]
    assert places == sorted(places)
    assert clone.changed_files() == []
    check_kinds(clone.path("reports/zoo"), joint, late)
    report = clone.text("reports/zoo/report.md")
    commit = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    assert f"\n`make zoo` in a clone at the Git revision that trained: {commit}.\n" in report
    assert "Training: seed 0;" in report
    assert "those of `make zoo`: seeds=[51,52,53,54,55,56], " in report
    # One more run for each other place of the fusion; at one size, the main run is already.
    assert "\n## Where to fuse\n" in report and "\n## At one number of parameters\n" not in report
    assert "Nothing can be claimed with 1 seed." in report.split("\n## Where to fuse\n")[1]
    numbers = json.loads(clone.text("reports/zoo/variants.json"))["fuse_after"]
    rows = {
        row["model"]: row for row in csv.DictReader(clone.text("reports/zoo/comparison.csv").splitlines())
    }
    own = numbers["models"]["concatenation"]["2"]
    assert own["parameters"] == int(rows["concatenation"]["parameters"])
    assert list(numbers["models"]["concatenation"]) == ["1", "2", "3"] and len(numbers["contrasts"]) == 3
    assert not clone.path(".studies").exists()
    assert all(path.stat().st_size < 200_000 for path in clone.path("reports/zoo/figures").glob("*.png"))


def test_a_study_leaves_the_committed_run_unchanged(clone: Project) -> None:
    """`make notebook` runs in a workspace on the same cache, and reports beside the committed results.

    Here with settings whose results are in the cache, so nothing trains; a test below trains with the notebook's own.
    """
    mark_environment_ready(clone)
    clone.set(train__save_every_s=7)  # not committed
    known = own_settings(clone)
    output = clone.run("make", "notebook", "DATASET=data/synthetic", f"SET={' '.join(known)}").stdout
    ran = stages_run(output)
    assert {"check", "compare", "headline", "report"} >= set(ran)
    assert "wrote reports/notebook/report.md" in output
    assert clone.changed_files() == ["params.yaml"] and not clone.path(".studies").exists()
    report = clone.text("reports/notebook/report.md")
    assert "`make notebook` in a clone at the Git revision that trained: " in report
    assert len(list(clone.path("reports/notebook/figures").glob("*.png"))) >= 4


def test_the_notebooks_settings(run_in_process: Callable[..., Project], tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "cilp", splits=("train", "train", "validation"))
    settings = (setting.split("=") for setting in notebook.SETTINGS)
    values = {key.replace(".", "__"): YAML(typ="safe").load(value) for key, value in settings}
    project = run_in_process(dataset__path=str(folder), **values)
    report = project.text("reports/report.md")
    for setting in (
        "Training: seed 51;",
        "networks: 2 epochs, at 0.0001",
        "2 epochs",
        "batches of 32",
        "constant learning rate of 0.0001",
    ):
        assert setting in report
    assert "One seed, at the epoch with the lowest validation loss" in report
    assert "Inputs are raw" in project.text("reports/details.md")


@pytest.mark.sweep
def test_notebook(clone: Project, tmp_path: Path) -> None:
    """On a folder outside the project, with a space in its name."""
    folder = write_dataset(tmp_path / "cilp assessment", splits=("train", "train", "validation"))
    mark_environment_ready(clone)
    clone.set(train__epochs=7)  # not committed, which the report has to mention
    output = clone.run("make", "notebook", f"DATASET={folder}", "SET=network.hidden=[8,4]").stdout
    assert "wrote reports/notebook/report.md" in output
    assert clone.changed_files() == ["params.yaml"]
    report = clone.text("reports/notebook/report.md")
    assert "with changes that were not committed" in report
    assert "cilp-assessment" in report and "Training: seed 51;" in report
