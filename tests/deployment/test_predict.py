"""Predicting a dataset: the evaluation's own numbers, missing sensors, unlabelled data, and what is refused."""

from __future__ import annotations

import csv
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.datasets import fo, write_dataset
from support.project import ROOT, Project, as_user

from scripts import predict
from stages.lib.comparison import calibration
from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.deployment import files
from stages.lib.evaluation import decisions, metrics, predictions
from stages.lib.export import decode
from stages.lib.tensors import manifest as manifests

DATASET = "data/synthetic"
Predict = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(
    shared_clone: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    decoding_process: decode.Pool,
) -> Iterator[Predict]:
    """Predicts in this process, in a clone of the tiny run; returns the rows of the table."""
    monkeypatch.chdir(shared_clone.folder)
    monkeypatch.setattr(decode, "started", lambda setting: nullcontext(decoding_process))

    def predicted(model: str, dataset: str | Path, *options: str) -> list[dict[str, Any]]:
        predict.main([model, str(dataset), str(tmp_path / "out.parquet"), *options])
        return pq.read_table(tmp_path / "out.parquet").to_pylist()

    yield predicted
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith(".out")}
    assert not left, "something is left half written"


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


@pytest.mark.parametrize("model", ["rgb", "lidar", "concatenation", "late"])
def test_own_test_split_gives_the_evaluations_numbers(model: str, run: Predict, tmp_path: Path) -> None:
    """To the last bit: decisions, probabilities from the stored logits, and every metric that is not calibrated."""
    rows = run(model, DATASET, "--tag", "test", "--seeds", "51")
    found = predictions.read(model, "test")
    place = found.seeds.index(51)
    assert column(rows, "group") == found.groups and column(rows, "scene") == found.scenes
    classes = manifests.load(manifests.FOLDER).classes
    assert [classes.index(label) for label in column(rows, "label")] == found.labels.tolist()
    decided = decisions.read(model).decided["clean"][place]
    assert [classes.index(label) for label in column(rows, "predicted")] == decided.tolist()
    validation = predictions.read(model, "validation")
    temperature = calibration.temperature(validation.logits[place], validation.labels)
    logits = found.logits[place].astype(np.float64)
    expected = np.exp(metrics.log_probabilities(logits / temperature))
    stored = np.stack([column(rows, f"p_{name}") for name in classes], axis=1)
    np.testing.assert_allclose(stored, expected, rtol=1e-14, atol=0)
    assert column(rows, "spread_cubes") == [None] * len(rows) and set(column(rows, "missing")) == {""}

    written = json.loads((tmp_path / "out.metrics.json").read_text())
    measured = written["metrics"]["each_seed"]
    evaluated = json.loads(Path(f"reports/evaluation/{model}.json").read_text())["seeds"]["51"]["test"]
    for name in ("balanced_accuracy", "accuracy", "f1", "f1_rare", "auroc", "average_precision"):
        assert measured[name]["values"] == [evaluated[name]]
    assert measured["loss"]["mean"] == pytest.approx(
        metrics.sample_losses(logits / temperature, found.labels).mean()
    )
    assert written["seeds"] == [51] and "all_seeds_together" not in written["metrics"]
    assert written["groups"] == len(rows) and written["scenes"] == len(set(found.scenes))


def test_several_seeds(run: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run("concatenation", DATASET, "--tag", "test")
    single = [run("concatenation", DATASET, "--tag", "test", "--seeds", str(seed)) for seed in (0, 51)]
    for place, row in enumerate(rows):
        values = [part[place]["p_cubes"] for part in single]
        assert row["p_cubes"] == pytest.approx(np.mean(values), abs=1e-12)
        assert row["spread_cubes"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert row["predicted"] == max(("cubes", "spheres"), key=lambda name: row[f"p_{name}"])
    run("concatenation", DATASET, "--tag", "test", "--seeds", "0", "51")
    written = json.loads((tmp_path / "out.metrics.json").read_text())["metrics"]
    statistics = json.loads(Path("reports/statistics.json").read_text())["models"]["concatenation"]
    # The same interval as in the report, from the same draws.
    expected = statistics["metrics"]["test"]["balanced_accuracy"]
    assert written["each_seed"]["balanced_accuracy"] == expected
    right = np.mean(
        [
            np.mean([row["predicted"] == label for row in rows if row["label"] == label])
            for label in ("cubes", "spheres")
        ]
    )
    assert written["all_seeds_together"]["balanced_accuracy"]["mean"] == pytest.approx(right)
    assert "all seeds together" in capsys.readouterr().out


@pytest.mark.parametrize("sensor", SENSORS)
def test_without_a_sensor(sensor: str, run: Predict, capsys: pytest.CaptureFixture[str]) -> None:
    """As the evaluation with this sensor missing, whose accuracy is quoted."""
    rows = run("concatenation", DATASET, "--tag", "test", "--seeds", "51", "--without", sensor)
    stored = decisions.read("concatenation")
    decided = stored.decided[f"{sensor} missing"][stored.seeds.index(51)]
    classes = manifests.load(manifests.FOLDER).classes
    assert [classes.index(label) for label in column(rows, "predicted")] == decided.tolist()
    assert column(rows, "missing") == [sensor] * len(rows)
    probes = json.loads(Path("reports/evaluation/concatenation.json").read_text())["probes"]["51"]
    said = capsys.readouterr().out
    assert f"{len(rows)} groups without " in said and f"is {probes['missing'][sensor]:.3f} on its own" in said


def test_missing_files_change_their_groups_only(
    run: Predict, shared_clone: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = run("addition", DATASET, "--tag", "test")
    copy = tmp_path / "copy"
    shutil.copytree(DATASET, copy)
    gone = expected[3]["group"]
    (copy / f"{gone}.png").unlink()
    rows = run("addition", copy, "--tag", "test")
    assert [row["missing"] for row in rows] == ["rgb" if row["group"] == gone else "" for row in rows]
    for row, before in zip(rows, expected, strict=True):
        assert (row["p_cubes"] == pytest.approx(before["p_cubes"], abs=1e-6)) is (row["group"] != gone)
    assert "\n1 group without RGB: " in capsys.readouterr().out


def test_predicting_what_it_was_trained_on_is_told(run: Predict, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run("rgb", DATASET)
    assert len(rows) == 40
    assert "warning: data/synthetic: rgb was trained on 20 of these groups" in capsys.readouterr().err


def unlabelled(number: int, rgb: Any, scan: Any) -> None:
    for sample in (rgb, scan):
        sample.tags = []
        sample["ground_truth"] = None


def test_unlabelled_groups(run: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of another size, without tags, scenes and labels; some without a sample or an array of a sensor."""

    def change(number: int, rgb: Any, scan: Any) -> None:
        unlabelled(number, rgb, scan)
        if number == 4:
            scan["xyza"] = None

    data = write_dataset(tmp_path / "data", groups=6, mode="RGBA", size=(20, 30), change=change)
    (tmp_path / "out.metrics.json").write_text("of an earlier run")
    rows = run("late", data)
    assert list(rows[0]) == [
        "group",
        "predicted",
        *(f"{prefix}_{name}" for prefix in ("p", "spread") for name in ("cubes", "spheres")),
        "missing",
    ]
    assert column(rows, "missing") == ["", "", "", "", "lidar", ""]
    assert all(row["p_cubes"] + row["p_spheres"] == pytest.approx(1) for row in rows)
    assert not (tmp_path / "out.metrics.json").exists()
    assert "1 group without LiDAR" in capsys.readouterr().out


def test_a_dataset_with_one_sensor(run: Predict, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", groups=6, mode="RGBA", slices=("rgb", "other"), change=unlabelled)
    with pytest.raises(UserError, match=r"no group slice 'lidar_img'.*--without lidar predicts without"):
        run("late", data)
    assert column(run("late", data, "--without", "lidar"), "missing") == ["lidar"] * 6
    assert column(run("rgb", data), "missing") == [""] * 6


def test_labels_of_another_field_and_a_csv_file(run: Predict, tmp_path: Path) -> None:
    def change(number: int, rgb: Any, scan: Any) -> None:
        unlabelled(number, rgb, scan)
        if number != 2:
            rgb["truth"] = fo.Classification(label=("cubes", "spheres")[number % 2])

    data = write_dataset(tmp_path / "data", groups=8, mode="RGBA", change=change)
    predict.main(["late", str(data), str(tmp_path / "out.csv"), "--field", "truth"])
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["cubes", "spheres", "", *["spheres", "cubes"] * 2, "spheres"]
    written = json.loads((tmp_path / "out.metrics.json").read_text())
    assert written["groups"] == 7
    right = [row["label"] == row["predicted"] for row in rows if row["label"]]
    assert written["metrics"]["all_seeds_together"]["accuracy"]["mean"] == pytest.approx(np.mean(right))


def test_what_does_not_fit_the_model_is_refused(run: Predict, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", groups=6, mode="RGB")
    with pytest.raises(UserError, match=r"labels that late does not know: 'cone', 'cube' .*cubes, spheres"):
        run("late", data)
    plain = write_dataset(tmp_path / "plain", groups=6, mode="RGB", change=unlabelled)
    with pytest.raises(UserError, match="images of 3 colour channels; the model was trained on 4"):
        run("late", plain)
    assert column(run("lidar", plain), "missing") == [""] * 6, "LiDAR alone does not care about colours"
    with pytest.raises(UserError, match=r"no field 'nothing' \(--field\); its fields are "):
        run("lidar", plain, "--field", "nothing")
    with pytest.raises(UserError, match="no usable group with the tag 'test'"):
        run("lidar", plain, "--tag", "test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", DATASET, "out.csv"], "no model named 'nothing'; trained are addition, concatenation"),
        (["matmul", DATASET, "out.csv"], "models/matmul: not trained yet"),
        (["late", DATASET, "out.txt"], "has to end with .parquet or .csv"),
        (["late", DATASET, "no/out.csv"], "no: no such folder"),
        (["late", "data/no", "out.csv"], "no folder 'data/no'"),
        (["late", "data", "out.csv"], "'data' is not a FiftyOneDataset"),
        (["late", DATASET, "out.csv", "--seeds", "7"], "late has no seed 7; trained and evaluated are 0, 51"),
        (["rgb", DATASET, "out.csv", "--without", "rgb"], "rgb sees no other sensor than rgb"),
        (["late", DATASET, "out.csv", "--without", "radar"], "invalid choice: 'radar'"),
        (["late", DATASET], "the following arguments are required: OUT"),
    ],
)
def test_errors_have_one_line(
    arguments: list[str], message: str, run: Predict, shared_clone: Project
) -> None:
    with pytest.raises(UserError) as error:
        predict.main(arguments)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not [path for path in shared_clone.folder.iterdir() if "out" in path.name]


def test_parts_that_do_not_belong_together(
    clone: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(clone.folder)
    arguments = ["late", DATASET, str(tmp_path / "out.csv")]
    path = clone.path("reports/predictions/late.parquet")
    table = pq.read_table(path)
    path.unlink()  # it may be a link into the cache
    others = table.set_column(3, "group", [[f"other {group}" for group in table["group"].to_pylist()]])
    pq.write_table(others, path)
    with pytest.raises(UserError, match=r"late\.parquet: predictions of another dataset than data/tensors"):
        predict.main(arguments)
    logits = table.set_column(
        table.column_names.index("logit_0"), "logit_0", [np.asarray(table["logit_0"]) + np.float32(1)]
    )
    pq.write_table(logits, path)
    with pytest.raises(UserError, match=r"late\.parquet: not of the weights in models/late \(seed 0\)"):
        predict.main(arguments)
    pq.write_table(table, path)
    metadata = clone.path("models/late/seed-51.json")
    text = metadata.read_text()
    metadata.unlink()
    metadata.write_text(text.replace('"data_digest": "', '"data_digest": "0'))
    with pytest.raises(UserError, match=r"seed-51\.json: trained on another dataset than data/tensors"):
        predict.main(arguments)


FULL = """
import sys
from pathlib import Path
import numpy as np
from bson import ObjectId
from stages.lib.core import console
from stages.lib.datasets.reader import DatasetGroup
from stages.lib.deployment import files
from stages.lib.deployment.prediction import Predicted
from stages.lib.deployment.table_file import PredictionFile

groups = [DatasetGroup(f"group {n}", "", "", "", "", "", ObjectId()) for n in range(5000)]

def main(arguments):
    with files.replaced(Path(arguments[0])) as path:
        with PredictionFile(path, ["a", "b"], has_scenes=False, has_labels=False) as table:
            part = Predicted(groups, np.zeros((1, 5000, 1)), {"rgb": np.zeros(5000, bool)})
            table.add(part, np.zeros(5000, int), np.random.default_rng(0).random((1, 5000, 2)))

console.run(main)
"""


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_full_disk(name: str, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))

    options = as_user(ROOT) | {"preexec_fn": limit}
    command = [sys.executable, "-B", "-c", FULL, str(tmp_path / name)]
    done = subprocess.run(command, timeout=120, **options)
    assert done.returncode == 1 and done.stdout.startswith("error: "), done.stdout
    assert done.stdout.count("\n") == 1 and "too large" in done.stdout.lower()
    assert not list(tmp_path.iterdir())


def test_an_incomplete_file_does_not_replace_a_complete_one(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("complete")
    with pytest.raises(OSError), files.replaced(out) as path:
        path.write_text("half")
        raise OSError("full")
    assert out.read_text() == "complete" and list(tmp_path.iterdir()) == [out]
    with files.replaced(out) as path:
        path.write_text("whole")
    assert out.read_text() == "whole" and out.stat().st_mode & 0o444 == 0o444
