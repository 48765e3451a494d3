"""The pipeline as a user runs it: real DVC in real clones of one tiny run."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.processes import work_off_queue
from support.project import Project

from stages.headline import TEST_METRICS

MODELS = ["rgb", "lidar", "concatenation", "addition", "hadamard", "late"]
# Files that a repetition may change: those with seconds, memory or environment.
NOT_REPEATABLE = (
    "reports/timing/",
    "reports/comparison.csv",
    "reports/report.md",
    "reports/cards",
    "reports/figures/pareto_time.png",
)


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def headings(report: str) -> list[str]:
    return re.findall(r"^## (.+)$", report, re.M)


def test_weights_and_their_metadata(shared_clone: Project) -> None:
    for name in MODELS:
        for seed in (0, 51):
            assert shared_clone.path(f"models/{name}/seed-{seed}.safetensors").stat().st_size > 0
            metadata = json.loads(shared_clone.text(f"models/{name}/seed-{seed}.json"))
            losses = metadata["valid_loss"]
            assert metadata["seed"] == seed and metadata["model"] == name
            assert losses[metadata["best_epoch"] - 1] == min(losses)
            assert len(losses) == metadata["recipe"]["epochs"] == (3 if name == "late" else 2)
    files = {path.suffix for path in shared_clone.path("models").rglob("*") if path.is_file()}
    assert files == {".safetensors", ".json"}


def test_history_is_what_the_notebook_logged(shared_clone: Project) -> None:
    rows = read_csv(shared_clone.path("reports/history/addition.csv"))
    assert list(rows[0]) == ["epoch", "seed", "learning_rate", "train_loss", "valid_loss"]
    assert [(row["seed"], row["epoch"]) for row in rows] == [("0", "1"), ("0", "2"), ("51", "1"), ("51", "2")]
    assert rows[0]["train_loss"] != rows[2]["train_loss"], "two seeds gave the same loss"


def test_manifest_and_cache(shared_clone: Project) -> None:
    manifest = json.loads(shared_clone.text("data/tensors/manifest.json"))
    assert manifest["source"] == "data/synthetic"
    assert manifest["classes"] == ["cubes", "spheres"]
    assert manifest["counts"] == {
        "train": {"cubes": 10, "spheres": 10},
        "validation": {"cubes": 3, "spheres": 3},
        "test": {"cubes": 7, "spheres": 7},
    }
    assert manifest["channels"] == {"rgb": 4, "lidar": 4} and manifest["image_size"] == 32
    assert re.fullmatch("[0-9a-f]{64}", manifest["digest"])
    assert manifest["statistics"]["rgb"]["std"][3] == 1, (
        "alpha must never be divided by its standard deviation"
    )


def test_predictions_hold_validation_and_test_rows(shared_clone: Project) -> None:
    for name in MODELS:
        table = pq.read_table(shared_clone.path(f"reports/predictions/{name}.parquet"))
        conditions = [f"condition_{name}" for name in ("camera_state", "lidar_state", "returns")]
        assert table.column_names == [
            *["model", "seed", "split", "group", "scene", "label"],
            *conditions,
            "logit_0",
        ]
        assert set(table["split"].to_pylist()) == {"validation", "test"}
        assert len(table) == 2 * (6 + 14)


def test_decisions_hold_a_column_for_each_state(shared_clone: Project) -> None:
    columns = {
        name: pq.read_table(shared_clone.path(f"reports/decisions/{name}.parquet")).column_names
        for name in MODELS
    }
    for name, found in columns.items():
        assert found[:3] == ["seed", "group", "clean"] and "both missing" in found
        assert ("rgb noise 5" in found) is (name != "lidar")
        assert ("lidar rain 1" in found) is (name != "rgb")
        # The built-in dataset's scenes show each class once.
        assert not any("late_scan" in column for column in found)


def test_comparison_has_all_columns(shared_clone: Project) -> None:
    rows = read_csv(shared_clone.path("reports/comparison.csv"))
    assert [row["model"] for row in rows] == [*MODELS, "prior", "return_count"]
    needed = "model kind seeds parameters weights_mib epoch_s peak_memory_mib latency_ms flops_m verdict"
    intervals = ["val_loss", *(f"test_{metric}" for metric in TEST_METRICS)]
    needed_columns = [*needed.split(), *(n + end for n in intervals for end in ("", "_low", "_high"))]
    assert set(needed_columns) <= set(rows[0])
    for row in rows[:6]:
        assert float(row["epoch_s"]) > 0 and float(row["peak_memory_mib"]) > 0 and row["verdict"]
        assert float(row["test_loss_low"]) < float(row["test_loss"]) < float(row["test_loss_high"])
    late, rgb, lidar = (next(r for r in rows if r["model"] == m) for m in ("late", "rgb", "lidar"))
    assert int(late["parameters"]) == int(rgb["parameters"]) + int(lidar["parameters"]) + 41


def test_headline_is_flat_and_follows_fusion(shared_clone: Project) -> None:
    metrics = json.loads(shared_clone.text("reports/metrics.json"))
    assert list(metrics) == [
        "val_loss",
        "test_loss",
        "test_accuracy",
        "test_balanced_accuracy",
        "test_f1",
        "test_auroc",
        "test_ece",
        "parameters_m",
    ]
    row = next(
        row
        for row in read_csv(shared_clone.path("reports/comparison.csv"))
        if row["model"] == "concatenation"
    )
    assert metrics["test_loss"] == pytest.approx(float(row["test_loss"]), rel=1e-4)


def test_report_shows_everything(shared_clone: Project) -> None:
    report, details = (shared_clone.text(f"reports/{page}.md") for page in ("report", "details"))
    assert headings(report) == [
        "The answer",
        "All models",
        "The notebook's table",
        "Analysis",
        "Which differences are significant",
        "Cost",
        "Which sensor each fusion uses",
        "Robustness",
        "Errors",
        "Advantages and limitations",
        "Data",
        "How to reproduce",
    ]
    assert headings(details) == [
        "All pairs of models",
        "All metrics",
        "By condition",
        "Calibration",
        "Doubtful labels",
        "Learning curves",
        "Pictures of the data",
        "How claims are made",
    ]
    table = report.split("## The notebook's table")[1]
    header = next(line for line in table.splitlines() if line.startswith("| Metrics"))
    architectures = [cell.strip() for cell in header.strip("|").split("|")][1:]
    assert architectures == [
        "Intermediate Fusion (Concatenation)",
        "Intermediate Fusion (Addition)",
        "Intermediate Fusion (Hadamard)",
        "Late Fusion",
    ]
    rows = re.findall(
        r"^\| (Validation Loss|Parameters \(M\)|Training Time / epoch \(s\)|GPU Memory \(MB\))", table, re.M
    )
    assert len(rows) == 4
    assert "no GPU" in table
    # Two epochs on twenty samples are too few to learn anything, and the report has to say so.
    assert "**No answer yet.**" in report and "**Nothing can be claimed with 2 seeds:**" in report
    words = len(report.split("## Analysis")[1].split("## ")[0].split())
    assert 200 <= words <= 400
    for page in (report, details):
        images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
        assert len(images) >= 6
        for image in images:
            assert shared_clone.path(f"reports/{image}").is_file()
        assert not re.search(r"<[a-z/!]", re.sub(r"`[^`]*`", "", page)), "HTML in the report"


def test_nothing_to_do_runs_nothing(shared_clone: Project) -> None:
    output = shared_clone.run("dvc", "repro").stdout
    assert stages_run(output) == []
    assert shared_clone.changed_files() == []


def test_another_fusion_runs_three_cheap_stages(clone: Project) -> None:
    before = json.loads(clone.text("reports/metrics.json"))
    output = clone.run("dvc", "exp", "run", "-S", "fusion=addition", "--name", "added").stdout
    assert stages_run(output) == ["check", "headline", "report"]
    assert json.loads(clone.text("reports/metrics.json")) != before
    assert "**addition**" in clone.text("reports/report.md")
    difference = clone.run("dvc", "metrics", "diff", "main", "added").stdout
    assert "test_loss" in difference and "val_loss" in difference
    shown = clone.run(
        "dvc", "exp", "show", "--only-changed", "--drop", "^(State|Executor|reports|models|data|stages)"
    ).stdout
    assert "added" in shown and "test_loss" in shown


def test_there_and_back_trains_nothing(clone: Project) -> None:
    """`headline` trains only what its fusion needs; the results of an earlier setting come from the run cache."""
    before = clone.text("reports/metrics.json")
    clone.set(train__learning_rate=0.0002)
    there = stages_run(clone.run("dvc", "repro", "headline").stdout)
    assert [stage for stage in there if stage.startswith("train")] == ["train_intermediate@concatenation"]
    assert clone.text("reports/metrics.json") != before
    clone.set(train__learning_rate=0.0012)
    back = stages_run(clone.run("dvc", "repro", "headline").stdout)
    assert set(back) <= {"check", "headline"}
    assert clone.text("reports/metrics.json") == before


@pytest.mark.sweep
def test_the_whole_pipeline_there_and_back(clone: Project) -> None:
    reports = {path.name: path.read_bytes() for path in clone.path("reports").glob("*.*")}
    clone.set(train__learning_rate=0.0002)
    there = stages_run(clone.run("dvc", "repro").stdout)
    assert "train_unimodal@rgb" in there and "train_late@late" in there
    clone.set(train__learning_rate=0.0012)
    back = stages_run(clone.run("dvc", "repro").stdout)
    assert not [stage for stage in back if stage.startswith(("train", "evaluate", "export", "synthesize"))]
    for name in ("metrics.json", "statistics.json"):
        assert clone.path(f"reports/{name}").read_bytes() == reports[name]


def test_number_of_workers_does_not_cause_training(clone: Project) -> None:
    clone.set(train__workers=2)
    changed = json.loads(clone.run("dvc", "status", "--json").stdout)
    assert changed and changed.keys() <= {"check", "report"}


def test_a_models_own_settings_train_it_alone(clone: Project) -> None:
    clone.set(train__per_model={"addition": {"learning_rate": 0.0002}})
    ran = stages_run(clone.run("dvc", "repro", "train_intermediate@addition", "train_unimodal@rgb").stdout)
    assert ran == ["check", "train_intermediate@addition"]
    changed = json.loads(clone.run("dvc", "status", "--json").stdout)
    assert not [stage for stage in changed if stage.startswith("train")]
    recipe = json.loads(clone.text("models/addition/seed-51.json"))["recipe"]
    assert recipe["learning_rate"] == 0.0002 and recipe["weight_decay"] == 0


def test_pythons_cache_causes_no_run(clone: Project) -> None:
    """Stages depend on source folders, into which Python writes its cache by default."""
    before = clone.text("dvc.lock")
    clone.run("python", "-m", "stages.check")
    assert list(clone.path("stages/lib/fusions/__pycache__").glob("*.pyc"))
    clone.path("stages/lib/fusions/stray.pyc").touch()  # as older tools write beside the source
    assert stages_run(clone.run("dvc", "repro").stdout) == []
    assert clone.text("dvc.lock") == before


def test_a_repetition_gives_the_same_bytes(tiny_run: Project, run_in_process: Callable[..., Project]) -> None:
    """Everything from rendering to statistics, once by DVC and once in this process with two workers."""
    again = output_hashes(run_in_process(figures=True, train__workers=2))
    before = output_hashes(tiny_run)
    assert again.keys() == before.keys()
    changed = {name for name in before if before[name] != again[name]}
    assert {name for name in changed if not name.startswith(NOT_REPEATABLE)} == set()


def test_force_trains_anew(clone: Project) -> None:
    """A forced run does not reuse the seeds that are kept for interrupted runs and for added seeds."""
    before = output_hashes(clone)
    again = clone.run("dvc", "repro", "--force", "--single-item", "train_intermediate@addition").stdout
    # This copy had no kept seeds. Now it has those of a run that DVC has recorded.
    assert list(clone.path(".scratch").rglob("seed-51.safetensors"))
    forced = clone.run("dvc", "repro", "--force", "--single-item", "train_intermediate@addition").stdout
    for output in (again, forced):
        assert re.findall(r"addition: seed (\d+), epoch 2/2: .* done", output) == ["0", "51"]
    after = output_hashes(clone)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"reports/timing/train-addition.json"}


@pytest.mark.sweep
def test_force_trains_anew_after_other_runs(clone: Project) -> None:
    """After a run by hand, and with a part of the last run's seeds."""
    force = ("dvc", "repro", "--force", "--single-item", "train_intermediate@addition")
    clone.run("python", "-m", "stages.train", "addition")
    assert len(re.findall(r"addition: seed \d+, epoch 2/2: .* done", clone.run(*force).stdout)) == 2
    clone.set(seeds=[51])
    assert len(re.findall(r"addition: seed \d+, epoch 2/2: .* done", clone.run(*force).stdout)) == 1


@pytest.mark.sweep
def test_forced_repetition_of_everything(clone: Project) -> None:
    clone.set(train__workers=2)
    before = output_hashes(clone)
    clone.run("dvc", "repro", "-f")
    output = clone.run("dvc", "repro", "-f").stdout
    assert len(re.findall(r"^\w+: seed \d+, epoch .* done$", output, re.M)) == 2 * len(MODELS)
    after = output_hashes(clone)
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert {name for name in changed if not name.startswith(NOT_REPEATABLE)} == set()


def output_hashes(project: Project) -> dict[str, str]:
    """A hash of every file that the pipeline wrote."""
    files = [
        path
        for folder in ("data", "models", "reports")
        for path in sorted(project.path(folder).rglob("*"))
        if path.is_file() and path.name != ".gitignore"
    ]
    return {
        path.relative_to(project.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_a_queue_runs_two_experiments_at_once(clone: Project) -> None:
    clone.run("dvc", "exp", "run", "--queue", "-S", "fusion=addition,hadamard")
    work_off_queue(clone, 2)
    shown = json.loads(clone.run("dvc", "exp", "show", "--json").stdout)
    text = json.dumps(shown)
    assert '"fusion": "addition"' in text and '"fusion": "hadamard"' in text


def test_plots_show_every_models_curves(shared_clone: Project, tmp_path: Path) -> None:
    shared_clone.run("dvc", "plots", "show", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    for name in MODELS:
        assert f"{name}.csv" in page
    assert "valid_loss" in page


def test_a_model_can_be_added_and_nothing_else_trains(clone: Project) -> None:
    """A file in fusions/ and a name in params.yaml: no other edit is needed."""
    source = clone.text("stages/lib/fusions/addition.py")
    source = source.replace("class Addition", "class HalfSum").replace("rgb + lidar\n", "(rgb + lidar) / 2\n")
    clone.path("stages/lib/fusions/half_sum.py").write_text(source)
    clone.set(intermediate=["concatenation", "addition", "hadamard", "half_sum"])
    target = "evaluate_intermediate@half_sum"
    ran = stages_run(clone.run("dvc", "repro", target).stdout)
    assert ran == ["check", "train_intermediate@half_sum", target]
    # Only comparison and report remain.
    assert json.loads(clone.run("dvc", "status", "--json").stdout).keys() == {"compare", "report"}


def test_no_pickle_in_the_cache(shared_clone: Project) -> None:
    suffixes = {
        path.suffix
        for folder in ("data/tensors", "data/logits", "models", "reports")
        for path in shared_clone.path(folder).rglob("*")
        if path.is_file()
    }
    assert suffixes <= {".safetensors", ".json", ".parquet", ".csv", ".png", ".md", ""}
