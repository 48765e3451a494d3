"""What FiftyOne's fields may hold, and contradictions between the samples of a group."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support.datasets import fo, write_dataset

from stages.lib.core.errors import UserError
from stages.lib.datasets import folders, slice_samples, validation
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest


def in_drives(value: Callable[[str], object]) -> Callable[[int, fo.Sample, fo.Sample], None]:
    """Six drives, each in one split: number % 5 is the split's place."""

    def change(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        rgb["drive"] = scan["drive"] = value(f"{number % 5}{number // 15}")

    return change


@pytest.mark.parametrize(
    "value",
    [str, int, float, lambda name: fo.Classification(label=name, confidence=0.5)],
    ids=["text", "int", "float", "classification"],
)
def test_scenes_of_any_type_count_alike(
    tmp_path: Path, run_export: Callable[..., Manifest], value: Callable[[str], object]
) -> None:
    folder = write_dataset(tmp_path / "data", change=in_drives(value))
    manifest = run_export(folder, dataset__scene_field="drive")
    assert manifest.scenes == {"train": 6, "validation": 2, "test": 2}
    scenes = {group.scene.lstrip("0") for group in stored_groups.read(manifests.FOLDER, "test")}
    assert scenes == {"40", "41"}


def test_a_field_that_names_no_scene_is_refused(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(tmp_path / "data", change=in_drives(lambda name: fo.Detections()))
    with pytest.raises(
        UserError, match=r"holds a Detections; text or an fo.Classification .*and 29 more like"
    ):
        run_export(folder, dataset__scene_field="drive")


def test_scenes_that_contradict_or_are_missing(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    def change(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        rgb["drive"] = f"d{number}"
        scan["drive"] = "another" if number == 3 else None
        if number in (5, 6):
            rgb["drive"] = None

    folder = write_dataset(tmp_path / "data", change=change)
    with pytest.raises(UserError, match=r"003.png: its slices are of scenes 'another' and 'd3'"):
        run_export(folder, dataset__scene_field="drive")
    told = run_export(folder, dataset__scene_field="drive", export__on_error="skip").warnings
    assert any("2 of 29 groups have no value in 'drive'" in text for text in told), told
    assert any("left out 1: contradicting scenes" in text for text in told)


def test_two_samples_of_a_slice_are_an_error(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    """Whichever of the two slices it is."""
    for slice_name in ("rgb", "lidar_img"):
        folder = write_dataset(tmp_path / slice_name)
        content = json.loads((folder / "samples.json").read_text())
        twin = next(
            s for s in content["samples"] if s["group"]["name"] == slice_name and "004" in s["filepath"]
        )
        twin = json.loads(json.dumps(twin)) | {"filepath": "data/second.png"}
        twin["_id"]["$oid"] = "f" * 24
        Image.new("RGB", (24, 24), "red").save(folder / "data" / "second.png")
        content["samples"].append(twin)
        (folder / "samples.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=f"several samples in slice '{slice_name}', also .*second.png"):
            run_export(folder)
        manifest = run_export(folder, export__on_error="skip")
        assert sum(manifest.counts["test"].values()) == 5


def test_numbers_as_labels_and_tags(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(tmp_path / "data", classes=("7", "12"))
    content = json.loads((folder / "samples.json").read_text())
    for sample in content["samples"]:
        sample["ground_truth"]["label"] = int(sample["ground_truth"]["label"])
    (folder / "samples.json").write_text(json.dumps(content))
    assert run_export(folder).classes == ["12", "7"]


def test_other_types_are_named() -> None:
    assert slice_samples.as_text({"_cls": "Classification", "label": 3.0}) == "3"
    assert slice_samples.as_text(None) is None and slice_samples.as_text({}) is None
    for value, named in (([1], "list"), ({"_cls": "Polyline"}, "Polyline"), ({"label": {"a": 1}}, "dict")):
        with pytest.raises(UserError, match=f"holds a {named}"):
            slice_samples.as_text(value)


def test_a_field_without_arrays_is_named(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    def change(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        scan["depth"] = fo.Classification(label="far")

    folder = write_dataset(tmp_path / "data", change=change)
    with pytest.raises(
        UserError, match=r"a Classification in the field .*; a numpy array .*and 29 more like"
    ):
        run_export(folder, dataset__lidar__field="depth")


def test_a_dataset_in_folders_is_read(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    """As exported with use_dirs=True: a file for each sample."""
    folder = write_dataset(tmp_path / "data")
    digest = run_export(folder).digest
    dataset = fo.Dataset.from_dir(dataset_dir=str(folder), dataset_type=fo.types.FiftyOneDataset)
    out = tmp_path / "in-folders"
    dataset.export(export_dir=str(out), dataset_type=fo.types.FiftyOneDataset, use_dirs=True)
    dataset.delete()
    assert not (out / "samples.json").exists() and run_export(out).digest == digest


def test_media_that_dvc_does_not_see_are_told(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(tmp_path / "data")
    outside = tmp_path / "outside"
    (folder / "data").rename(outside)
    (folder / "data").symlink_to(outside)
    told = run_export(folder, dataset__allow_external_media=True).warnings
    assert any("60 media files lie outside the dataset's folder" in text for text in told), told
    assert any("dvc repro --force export" in text for text in told)


def test_classes_that_differ_in_capitals_alone_are_told() -> None:
    assert validation.similar_names(["Car", "bus", "car "]) is not None
    assert validation.similar_names(["Car", "bus", "cart"]) is None


def test_a_copy_of_the_project_finds_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC runs a queued experiment in a copy without what Git ignores; DVC_ROOT names the project itself."""
    project, copy = tmp_path / "project", tmp_path / "project" / ".dvc" / "tmp" / "copy"
    (project / "data" / "mine").mkdir(parents=True)
    (project / "data" / "mine" / "metadata.json").touch()
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    folders.link_into_copy(Path("data/mine"))
    assert not Path("data").exists()
    monkeypatch.setenv("DVC_ROOT", str(project))
    folders.link_into_copy(Path("data/none"))
    assert not Path("data").exists()
    for _ in range(2):
        folders.link_into_copy(Path("data/mine"))
        assert Path("data/mine/metadata.json").is_file() and Path("data/mine").is_symlink()
    monkeypatch.chdir(project)
    folders.link_into_copy(Path("data/mine"))
    assert not Path("data/mine").is_symlink()


def test_a_damaged_file_is_named_with_the_place(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(tmp_path / "data")
    content = (folder / "samples.json").read_text()
    (folder / "samples.json").write_text(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"samples.json: not valid JSON \(.*line 1 column"):
        run_export(folder)
