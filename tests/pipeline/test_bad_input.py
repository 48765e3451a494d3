"""Users' errors end a run before training: one line, no traceback, no tracked file lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support.datasets import write_dataset
from support.project import Project

from stages import check, compare, evaluate, train, train_late
from stages.lib.core.errors import UserError
from stages.lib.models import devices
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest


def refused(project: Project, *command: str) -> str:
    """Runs a command that must fail without a traceback; returns the one line with the reason."""
    done = project.run(*command, check=False)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    assert "Running stage 'train" not in done.stdout, "it failed only after training had begun"
    assert set(project.changed_files()) <= {"params.yaml", "dvc.lock"}
    for name in ("reports/metrics.json", "reports/report.md", "reports/comparison.csv"):
        assert project.path(name).is_file(), f"{name} is lost"
    lines = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stdout
    return lines[0]


def restore(project: Project) -> None:
    project.run("git", "checkout", "--", ".")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"fusion": "sum"}, ["fusion", "'sum'", "concatenation, addition, hadamard, late"]),
        ({"fusion": "rgb"}, ["fusion", "'rgb'", "concatenation"]),
        ({"intermediate": ["concatenation", "sum"]}, ["intermediate", "'sum'", "addition"]),
        ({"late": ["later"]}, ["late", "unknown name 'later'", "known names are late"]),
        ({"train__per_model": {"sum": {}}}, ["train.per_model", "unknown model 'sum'", "rgb, lidar", "late"]),
        ({"unimodal": ["rgb"]}, ["unimodal", "'lidar' is missing"]),
        ({"intermediate": []}, ["'intermediate' is empty"]),
        ({"seeds": []}, ["'seeds' is empty"]),
        ({"seeds": [1, 1]}, ["seeds", "1 is listed twice"]),
        ({"dataset__path": "data/nowhere"}, ["dataset.path", "no folder 'data/nowhere'"]),
        ({"dataset__path": "tests"}, ["dataset.path", "'tests' is not a FiftyOneDataset", "metadata.json"]),
        ({"dataset__splits__test": "train"}, ["dataset.splits", "three different tags"]),
        ({"dataset__lidar__field": None}, ["dataset.lidar.field", "format xyza", "name of the field"]),
        ({"dataset__lidar__format": "pcd"}, ["dataset.lidar.field", "is xyza", "has to be null"]),
        ({"synthetic__distance_m": [24, 12]}, ["synthetic.distance_m", "must not exceed the second"]),
        ({"synthetic__distance_m": [2, 3]}, ["radius 1.5 m at 2 m", "does not fit the field of view"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_check_refuses(
    edit_params: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, object],
    expected: list[str],
) -> None:
    """In this process; a test below shows that DVC then runs nothing and loses nothing."""
    folder = edit_params(**values).parent
    monkeypatch.chdir(folder)
    (folder / "tests").mkdir()
    with pytest.raises(UserError) as error:
        check.main()
    assert str(error.value).startswith("params.yaml: ") and "\n" not in str(error.value)
    for part in expected:
        assert part in str(error.value)
    assert not (folder / check.PASSED).exists()


def test_an_error_in_params_ends_a_run_at_once(shared_clone: Project) -> None:
    try:
        shared_clone.set(dataset__path="data/nowhere")
        assert "no folder 'data/nowhere'" in refused(shared_clone, "dvc", "repro")
    finally:
        restore(shared_clone)


def test_misspelt_key(shared_clone: Project) -> None:
    try:
        path = shared_clone.path("params.yaml")
        path.write_text(path.read_text().replace("  precision:", "  precison:"))
        # DVC stops first, since a stage depends on the missing key; the check names the remedy.
        line = refused(shared_clone, "python", "-m", "stages.check")
        assert "unknown key 'train.precison' (did you mean 'precision'?)" in line
        assert "missing key 'train.precision'" in line
    finally:
        restore(shared_clone)


def test_a_model_in_two_lists(shared_clone: Project) -> None:
    """DVC itself refuses two stages with one output; the check, which `make repro` runs first, gives the reason."""
    try:
        shared_clone.set(late=["addition"])
        line = refused(shared_clone, "python", "-m", "stages.check")
        assert "late: unknown name 'addition'; known names are late" in line
    finally:
        restore(shared_clone)


def test_a_diverging_run_names_model_seed_and_epoch(clone: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    clone.set(train__learning_rate=1e30, train__schedule="constant")
    monkeypatch.chdir(clone.folder)
    with pytest.raises(UserError, match=r"^addition, seed 0: epoch 1, batch .* train\.learning_rate"):
        train.main(["addition"])


def test_experiment_with_an_unknown_fusion_loses_nothing(clone: Project) -> None:
    line = refused(clone, "dvc", "exp", "run", "-S", "fusion=sum")
    assert "unknown fusion 'sum'" in line


Change = Callable[[int, object, object], None]


def drop_label(number: int, rgb: object, lidar: object) -> None:
    if number == 4:
        rgb.ground_truth = lidar.ground_truth = None


def one_class(number: int, rgb: object, lidar: object) -> None:
    rgb.ground_truth.label = lidar.ground_truth.label = "cone"


def untag(split: str) -> Change:
    def change(number: int, rgb: object, lidar: object) -> None:
        if split in rgb.tags:
            rgb.tags = lidar.tags = ["other"]

    return change


def double_tag(number: int, rgb: object, lidar: object) -> None:
    if number == 3:
        rgb.tags = ["train", "test"]


def wrong_shape(number: int, rgb: object, lidar: object) -> None:
    if number == 2:
        lidar["xyza"] = lidar["xyza"][:3]


def not_finite(number: int, rgb: object, lidar: object) -> None:
    if number == 2:
        lidar["xyza"][:, 0, 0] = (float("nan"), 1, 1, 1)  # marked as a return


def other_channels(number: int, rgb: object, lidar: object) -> None:
    if number == 7:
        Image.new("L", (24, 24)).save(rgb.filepath)


def contradict(number: int, rgb: object, lidar: object) -> None:
    if number == 4:
        lidar.ground_truth.label = "cube"


def same_image(number: int, rgb: object, lidar: object) -> None:
    if number == 5:
        rgb.filepath = rgb.filepath.replace("005.png", "000.png")


def broken_image(number: int, rgb: object, lidar: object) -> None:
    if number == 5:
        path = Path(rgb.filepath)
        path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("change", "values", "expected"),
    [
        (
            None,
            {"dataset__rgb__slice": "camera"},
            ["no group slice 'camera'", "dataset.rgb.slice", "lidar_img"],
        ),
        (None, {"dataset__lidar__slice": "scan"}, ["no group slice 'scan'", "dataset.lidar.slice", "rgb"]),
        (None, {"dataset__lidar__field": "points"}, ["no field 'points'", "dataset.lidar.field", "xyza"]),
        (
            None,
            {"dataset__label_field": "class"},
            ["no field 'class'", "dataset.label_field", "ground_truth"],
        ),
        (None, {"dataset__label_field": "filepath"}, ["'filepath'", "not an fo.Classification"]),
        (None, {"dataset__splits__train": "training"}, ["train split is empty", "'training'", "validation"]),
        (untag("validation"), {}, ["validation split is empty", "dataset.splits.validation", "other"]),
        (untag("train"), {}, ["train split is empty", "dataset.splits.train"]),
        (one_class, {}, ["only one class", "'cone'", "dataset.label_field"]),
        (drop_label, {}, ["004", "no label in 'ground_truth'"]),
        (contradict, {}, ["004", "labelled 'cone' and 'cube'"]),
        (double_tag, {}, ["003", "several splits at once: test, train"]),
        (wrong_shape, {}, ["002", "(3, 24, 24)", "(4, H, W)"]),
        (not_finite, {}, ["002", "NaN or infinite"]),
        (other_channels, {}, ["007.png", "1 colour channels", "3"]),
        (broken_image, {}, ["005.png", "unreadable image"]),
        (same_image, {}, ["000", "belongs to several groups"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else getattr(value, "__name__", None) or str(value),
)
def test_export_refuses(
    run_export: Callable[..., Manifest],
    tmp_path: Path,
    change: Change | None,
    values: dict[str, str],
    expected: list[str],
) -> None:
    """In this process; a test below shows that DVC then trains nothing and loses nothing."""
    folder = write_dataset(tmp_path / "mine", groups=15, change=change)
    with pytest.raises(UserError) as error:
        run_export(folder, **values)
    assert "\n" not in str(error.value)
    for part in expected:
        assert part in str(error.value)
    assert not manifests.FOLDER.exists(), "half a cache"


def test_a_missing_image_is_named(run_export: Callable[..., Manifest], tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "mine", groups=15)
    (folder / "data" / "006.png").unlink()
    with pytest.raises(UserError, match=r"006\.png: no such file"):
        run_export(folder)


def test_a_folder_that_fiftyone_cannot_load(run_export: Callable[..., Manifest], tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "mine", groups=15)
    (folder / "samples.json").write_text(json.dumps({"samples": [{"nonsense": 1}]}))
    with pytest.raises(UserError, match=re.escape(str(folder))):
        run_export(folder)


def test_a_faulty_dataset_ends_a_run_before_training(shared_clone: Project, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "mine", groups=15, change=contradict)
    try:
        shared_clone.set(dataset__path=str(folder))
        line = refused(shared_clone, "dvc", "repro", "headline", "report")
        assert "004" in line and "labelled 'cone' and 'cube'" in line
    finally:
        restore(shared_clone)
        shared_clone.run("dvc", "checkout", "--quiet")


@pytest.mark.parametrize("command", [["train"], ["train", "a", "b"], ["evaluate"]])
def test_stages_name_the_expected_arguments(command: list[str]) -> None:
    stage, *rest = command
    with pytest.raises(UserError, match="expected one argument"):
        {"train": train, "evaluate": evaluate}[stage].main(rest)
    with pytest.raises(UserError, match="expected no arguments, not a b"):
        check.main(["a", "b"])


def test_missing_cuda() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UserError, match="PyTorch finds no CUDA device"):
        devices.choose("cuda")


def test_unknown_model(edit_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(edit_params().parent)
    with pytest.raises(UserError, match=r"unknown model 'bogus'.* concatenation"):
        train.main(["bogus"])


def test_missing_inputs_name_the_stage_to_run(clone: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone.folder)
    clone.path("models/rgb/seed-51.safetensors").unlink()
    with pytest.raises(UserError, match=r"models/rgb/seed-51\.safetensors: no such file"):
        train_late.main(["late"])
    clone.path("data/tensors/manifest.json").unlink()
    with pytest.raises(UserError, match="dvc repro export"):
        train.main(["rgb"])


def test_compare_refuses_predictions_that_do_not_match(
    clone: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone.folder)
    path = clone.path("reports/predictions/addition.parquet")
    table = pq.read_table(path)
    seeds = table["seed"].to_numpy()
    logits = np.where(np.arange(len(table)) == 3, np.nan, table["logit_0"].to_numpy())
    group = ["another", *table["group"].to_pylist()[1:]]
    cases = {
        "has seeds [51] instead of [0, 51]": table.filter(pa.array(seeds == 51)),
        "seed 51 holds other groups than seed 0": table.set_column(3, "group", pa.array(group)),
        "seed 0 holds logits that are no finite numbers, validation split": table.set_column(
            table.column_names.index("logit_0"), "logit_0", pa.array(logits.astype(np.float32))
        ),
        "holds nothing on the validation split": table.filter(
            pa.array(table["split"].to_numpy(zero_copy_only=False) == "test")
        ),
    }
    for message, tampered in cases.items():
        path.unlink()  # it can be a link into DVC's cache
        pq.write_table(tampered, path)
        with pytest.raises(UserError, match=re.escape(message)) as error:
            compare.main()
        assert "reports/predictions/addition.parquet: " in str(error.value)
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        compare.main()
