"""Frames with labelled boxes, of KITTI or in a FiftyOne dataset, become a dataset of objects."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import kitti
from support.datasets import fo, write_detections
from support.project import ROOT

from scripts import ingest
from scripts.ingest import cutting, kitti_files, scenes
from scripts.ingest.cutting import Box, Crop, PictureReturns
from stages.lib.core.errors import UserError
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors import samples
from stages.lib.tensors.manifest import Manifest

FRAMES = 12


def run_ingest(*arguments: object) -> str:
    command = [sys.executable, "-m", "scripts.ingest", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_groups(folder: Path) -> dict[str, dict[str, Any]]:
    """Of each group: its label, scene, tags and fields, its image, and its raster."""
    dataset = fo.Dataset.from_dir(dataset_dir=str(folder), dataset_type=fo.types.FiftyOneDataset)
    try:
        groups = {}
        for group in dataset.iter_groups():
            rgb, scan = group["rgb"], group["lidar_img"]
            fields = ("scene", "tags", "distance_m", "occlusion", "truncation", "returns")
            facts = {name: rgb[name] for name in fields if rgb.has_field(name)}
            assert facts == {name: scan[name] for name in facts}
            assert rgb.ground_truth.label == scan.ground_truth.label
            groups[Path(rgb.filepath).stem] = facts | {
                "label": rgb.ground_truth.label,
                "image": np.asarray(Image.open(rgb.filepath)),
                "depth": np.asarray(Image.open(scan.filepath)),
                "raster": scan.xyza,
            }
        return groups
    finally:
        dataset.delete()


def expected_raster(returns: dict[tuple[int, int], tuple[float, float, float]]) -> np.ndarray:
    raster = np.zeros((4, 64, 64), dtype=np.float32)
    for (row, column), xyz_m in returns.items():
        raster[:, row, column] = (*xyz_m, 1)
    return raster


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """KITTI frames, the dataset made of them, and the output."""
    base = tmp_path_factory.mktemp("kitti")
    folder = kitti.write_kitti(base / "kitti/training", FRAMES)
    told = run_ingest("kitti", base / "kitti", base / "objects")
    return folder, base / "objects", told


def test_kitti_rasters_and_crops_are_those_worked_out_by_hand(cut: tuple[Path, Path, str]) -> None:
    folder, dataset, _ = cut
    groups = read_groups(dataset)
    assert len(groups) == 2 * FRAMES
    for number in range(FRAMES):
        picture = np.asarray(Image.open(folder / f"image_2/{number:06d}.png"))
        car, pedestrian = (groups[f"{number:06d}_{item:02d}"] for item in (0, 2))
        assert (car["label"], pedestrian["label"]) == ("Car", "Pedestrian")
        assert car["scene"] == pedestrian["scene"] == f"{number:06d}" and car["tags"] == pedestrian["tags"]
        facts = [(g["distance_m"], g["occlusion"], g["truncation"], g["returns"]) for g in (car, pedestrian)]
        assert facts == [(13.0, 2, 0.25, 2), (pytest.approx((7.7**2 + 1 + 64) ** 0.5), 1, 0.5, 1)]
        # The car: 53.5 pixels and two margins of 10 % are 64.2, so a cell is a pixel. The crop begins at (68, 18).
        assert np.array_equal(car["image"], picture[18:82, 68:132])
        depth_m = kitti.car_depth_m(number)
        nearest = {(32, 33): (0, 0, depth_m), (32, 32): (0, 0, depth_m + 10)}
        assert np.array_equal(car["raster"], expected_raster(nearest))
        assert (
            car["depth"].shape == (64, 64, 3) and (car["depth"].any(axis=2) == (car["raster"][3] > 0)).all()
        )
        # The pedestrian: 16 pixels and margins are 19.2, but a crop has at least 20. It begins at (184, 38); its last
        # four columns are outside the picture. A cell is 5/16 of a pixel.
        assert np.array_equal(pedestrian["image"][:, :16], picture[38:58, 184:])
        assert pedestrian["image"].shape == (20, 20, 3) and not pedestrian["image"][:, 16:].any()
        column = int((198.75 - number / 5.12 - 184) * 3.2)
        right = expected_raster({(38, column): (7.7 - number / 64, 0, 8)})
        assert np.allclose(pedestrian["raster"], right, atol=1e-6)


def test_kitti_counts_what_it_leaves_out(cut: tuple[Path, Path, str]) -> None:
    _, dataset, told = cut
    assert f"left out: {FRAMES} objects called DontCare\n" in told
    assert f"left out: {FRAMES} objects without a return in the crop\n" in told
    assert "train: 8 Car, 8 Pedestrian\nvalidation: 2 Car, 2 Pedestrian\ntest: 2 Car, 2 Pedestrian\n" in told
    assert (dataset / "left_out.txt").read_text() == ""
    options = (
        "-S dataset.lidar.orientation=as-is -S dataset.lidar.max_range_m=120 -S dataset.lidar.axes=camera"
    )
    assert f"next: dvc exp run -S dataset.path={dataset} {options} headline report\n" in told


def test_the_export_takes_kitti(cut: tuple[Path, Path, str], run_export: Callable[..., Manifest]) -> None:
    settings = {"dataset__scene_field": "scene", "dataset__lidar__max_range_m": 120, "export__image_size": 64}
    manifest = run_export(cut[1], dataset__lidar__axes="camera", **settings)
    assert manifest.counts == {
        split: {"Car": count, "Pedestrian": count}
        for split, count in {"train": 8, "validation": 2, "test": 2}.items()
    }
    groups = read_groups(cut[1])
    for index, group in enumerate(stored_groups.read(manifests.FOLDER, "train")):
        image, raster = samples.read(manifests.FOLDER, manifest, "train", index)
        right = groups[Path(group.group).name]
        x, y, z, a = right["raster"]  # right, down, forward; in the cache y is forward and z up
        assert np.array_equal(raster, [x, z, -y, a])
        if right["label"] == "Car":
            assert np.array_equal(np.moveaxis(image, 0, -1), right["image"])


def ingest_in_process(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: object) -> None:
    """In a folder with the project's settings, but with one process."""
    text = (ROOT / "params.yaml").read_text().replace("workers: auto", "workers: 1")
    (folder / "params.yaml").write_text(text)
    monkeypatch.chdir(folder)
    ingest.main([*map(str, arguments)])


def test_damaged_frames_are_listed_and_drives_are_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = kitti.write_kitti(tmp_path / "kitti", FRAMES)
    with (folder / "velodyne/000001.bin").open("ab") as file:
        file.write(b"x")
    (folder / "calib/000002.txt").unlink()
    (folder / "label_2/000003.txt").unlink()
    (folder / "image_2/000004.png").write_bytes(b"no picture")
    (folder / "calib/000005.txt").write_text(kitti.CALIBRATION.replace("R0_rect", "R1_rect"))
    (folder / "image_2/000006.png").unlink()
    labels = folder / "label_2/000007.txt"
    first, *rest = labels.read_text().splitlines()
    labels.write_text("\n".join(["Car 0 0 0 5 5 9 9 1 1 1 0 0 9", first.replace("73.25", "nan"), *rest]))
    drives = kitti.write_mapping(tmp_path / "mapping", ["a"] * 4 + ["b"] * 4 + ["c"] * 4)
    ingest_in_process(monkeypatch, tmp_path, "kitti", folder, "out", "--drives", drives)
    groups = read_groups(tmp_path / "out")
    assert {stem[:6] for stem in groups} == {f"{number:06d}" for number in (0, 7, 8, 9, 10, 11)}
    drive_of = {stem: group["scene"] for stem, group in groups.items()}
    assert (drive_of["000000_02"], drive_of["000007_01"], drive_of["000011_02"]) == ("a", "b", "c")
    listed = (tmp_path / "out/left_out.txt").read_text().splitlines()
    expected = [
        f"{folder}: frame 000002: no calib/000002.txt",
        f"{folder}: frame 000003: no label_2/000003.txt",
        f"{folder}: frame 000006: no image_2/000006.png",
        f"{folder}/label_2/000007.txt:1: 14 fields; a label has 15, or 16 with a score",
        f"{folder}/label_2/000007.txt:2: no finite numbers after 'Car'",
        f"{folder}/image_2/000001.png: not cut; {folder}/velodyne/000001.bin: 113 bytes, but a point has 16; it is "
        "damaged",
        f"{folder}/image_2/000004.png: not cut; {folder}/image_2/000004.png: unreadable image",
        f"{folder}/image_2/000005.png: not cut; {folder}/calib/000005.txt: no R0_rect or R_rect",
    ]
    assert len(listed) == len(expected)
    assert all(line.startswith(start) for line, start in zip(listed, expected, strict=True))
    captured = capsys.readouterr()
    told = captured.out
    assert "--drives" not in captured.err, "drives are given"
    assert all(f"left out: {line}\n" in told for line in listed)
    assert "left out: 8 frames and labels in all" in told


def test_lists_and_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = kitti.write_kitti(tmp_path / "kitti", 6)
    for name, frames in {"train": (0, 1, 2), "val": (4,), "all": range(6)}.items():
        (tmp_path / f"{name}.txt").write_text("".join(f"{frame:06d}\n" for frame in frames))
    (tmp_path / "files.txt").write_text("000004.png\n")
    for number in (0, 4):
        path = folder / f"label_2/{number:06d}.txt"
        path.write_text(path.read_text().replace("Pedestrian", "Cyclist"))
    ingest_in_process(monkeypatch, tmp_path, "kitti", folder, "without-drives")
    assert "--drives names the drive of each frame" in capsys.readouterr().err
    options = ("--lists", "train.txt", "val.txt", "--classes", "Car", "Cyclist")
    ingest_in_process(monkeypatch, tmp_path, "kitti", folder, "out", *options)
    found = {(stem, group["label"], *group["tags"]) for stem, group in read_groups(tmp_path / "out").items()}
    assert found == {
        ("000000_00", "Car", "train"),
        ("000000_01", "Cyclist", "train"),
        ("000001_00", "Car", "train"),
        ("000002_00", "Car", "train"),
        ("000004_00", "Car", "validation"),
        ("000004_01", "Cyclist", "validation"),
    }
    for options, message in (
        (
            ("--lists", "train.txt", "all.txt"),
            "all.txt:1: scene '000000' is for validation here, but for train at",
        ),
        (
            ("--lists", "train.txt", "files.txt"),
            "files.txt: no line is the name of a frame or scene with objects, such as 000000",
        ),
        (("--lists", "train.txt"), "--lists: two files"),
        (("--lists", "train.txt", "none.txt"), "none.txt: unreadable file (No such file or directory)"),
        (
            ("--classes", "car"),
            "--classes: no object of class 'car'; classes are Car, Cyclist, Pedestrian, Van",
        ),
        (("--classes", "Van"), f"{folder}: no object can be cut; 6 objects called DontCare; 18"[:-2]),
        (("--classes", "Car"), "training groups in Car"),
        (("--shares", "1", "0", "0"), "--shares: three numbers"),
        (("--drives", "train.txt"), "train.txt:1: 1 words; lines of the form 'FRAME DRIVE'"),
        (("--colour", "red"), "unrecognized arguments: --colour red; python -m scripts.ingest kitti --help"),
    ):
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            ingest.main(["kitti", str(folder), "other", *options])
        assert len(str(caught.value).splitlines()) == 1 and not (tmp_path / "other").exists()


def test_a_command_needs_three_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kitti` may also be a raw folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    usage = re.escape("usage: python -m scripts.ingest kitti FOLDER OUT [options]")
    with pytest.raises(UserError, match=usage):
        ingest.main(["kitti", "out"])
    (tmp_path / "kitti").mkdir()
    with pytest.raises(UserError, match="kitti: no folder with rgb/ and lidar/ in it"):
        ingest.main(["kitti", "out"])
    with pytest.raises(UserError, match="kitti: no image_2/, no velodyne/, no calib/, no label_2/; KITTI's"):
        ingest.main(["kitti", "kitti", "out"])


def test_calibrations(tmp_path: Path) -> None:
    path = tmp_path / "calib.txt"
    tracking = kitti.CALIBRATION.replace("R0_rect:", "R_rect").replace("Tr_velo_to_cam:", "Tr_velo_cam")
    for text in (kitti.CALIBRATION, tracking):
        path.write_text(text)
        found = kitti_files.read_calibration(path)
        assert found.projection.tolist() == [[100, 0, 100, 20], [0, 100, 50, 0], [0, 0, 1, 0]]
        assert found.velodyne_to_camera[2].tolist() == [1, 0, 0, -0.5]
        assert np.array_equal(found.rectification, np.eye(3))
    for old, new, message in (
        ("P2", "P3", "calib.txt: no P2"),
        ("1e2 0 1.0e+02", "1e2 0", "calib.txt:2: P2 needs 12 finite numbers; it has 11"),
        ("1e2 0 1.0e+02", "1e2 0 inf", "calib.txt:2: P2 needs 12 finite numbers; it has 12"),
        ("-5.000000000000e-01", "-5,0", "calib.txt:4: Tr_velo_to_cam needs numbers"),
    ):
        path.write_text(kitti.CALIBRATION.replace(old, new))
        with pytest.raises(UserError, match=re.escape(message)):
            kitti_files.read_calibration(path)


def test_rectification_and_projection_turn_points() -> None:
    """A quarter turn about the axis of view: what the LiDAR sees on the left is in the picture's upper half."""
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    to_camera = np.array([[0, -1, 0, 0], [0, 0, -1, 0.25], [1, 0, 0, 0.0]])
    projection = np.array([[100, 0, 100, 0], [0, 100, 50, 0], [0, 0, 1, 0.0]])
    calibration = kitti_files.Calibration(projection, quarter, to_camera)
    points = np.array([[10, 2, 0], [10, 9, 0], [-10, 2, 0]], dtype=np.float32)
    found = kitti_files.project(points, calibration, 200, 100)
    # The first point: (-2, 0.25, 10) in camera axes, then (-0.25, -2, 10). The second one is above the picture.
    assert np.allclose(found.xyz_m, [[-0.25, -2, 10]])
    assert np.allclose([found.column_px, found.row_px, found.depth_m], [[97.5], [30], [10]])


@pytest.mark.parametrize(
    ("box", "crop"),
    [
        (Box(73.25, 40.0, 126.75, 60.0), Crop(68, 18, 64)),
        (Box(40.0, 10.0, 50.0, 60.0), Crop(15, 5, 60)),  # higher than wide
        (Box(10.0, 10.0, 12.0, 13.0), Crop(1, 1, 20)),  # at least 20 pixels
        (Box(0.0, 0.0, 100.0, 50.0), Crop(-10, -35, 120)),  # over the edges
    ],
)
def test_crops_are_squares_around_boxes(box: Box, crop: Crop) -> None:
    assert cutting.crop_around(box) == crop


def test_the_nearest_return_of_a_cell_is_kept() -> None:
    xyz_m = np.array([[1, 2, 30.0], [3, 4, 20.0], [5, 6, 40.0], [7, 8, 10.0]])
    columns = np.array([10.1, 10.4, 10.2, 10.6])
    returns = PictureReturns(columns, np.full(4, 20.5), xyz_m[:, 2], xyz_m)
    raster = cutting.raster_of(returns, Crop(0, 10, 32), 64)
    assert raster[:, 21, 20].tolist() == [3, 4, 20, 1] and raster[:, 21, 21].tolist() == [7, 8, 10, 1]
    assert raster[3].sum() == 2 and not raster[:, raster[3] == 0].any()


def test_shares_of_scenes_are_stratified_by_the_rarest_class() -> None:
    labels = {f"{number}": {"Car"} | ({"Tram"} if number % 10 == 0 else set()) for number in range(200)}
    found = scenes.by_shares(labels, (0.5, 0.25, 0.25), 0)
    assert [list(found.values()).count(split) for split in ("train", "validation", "test")] == [100, 50, 50]
    trams = [split for name, split in found.items() if "Tram" in labels[name]]
    assert [trams.count(split) for split in ("train", "validation", "test")] == [10, 5, 5]
    assert found == scenes.by_shares(dict(reversed(labels.items())), (2.0, 1.0, 1.0), 0)
    other = scenes.by_shares(labels, (0.5, 0.25, 0.25), 1)
    assert found != other and found.keys() == other.keys()


def test_detections_of_a_dataset(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    run_export: Callable[..., Manifest],
) -> None:
    folder = write_detections(tmp_path / "pictures", tags=("train", "train", "validation", "validation"))
    ingest_in_process(monkeypatch, tmp_path, "detections", folder, "out")
    groups = read_groups(tmp_path / "out")
    assert len(groups) == 16
    for number in range(8):
        picture = np.asarray(Image.open(folder / f"data/picture{number}.png"))
        cat, dog = (groups[f"{number:06d}-picture{number}_{item:02d}"] for item in (0, 1))
        split = "train" if number % 4 < 2 else "validation"
        assert (cat["label"], dog["label"]) == ("cat", "dog")
        assert (cat["scene"], cat["tags"]) == (f"scene{number // 2}", [split])
        assert (cat["distance_m"], cat["occlusion"], dog["occlusion"]) == (7.5, None, 1)
        # A box of 20 x 20 pixels, so a crop of 24 that begins at (8, 8). A cell of the array is 2 x 2 pixels; the
        # return in row 10 and column 10 is at (21, 21).
        assert np.array_equal(cat["image"], picture[8:32, 8:32])
        assert np.array_equal(cat["raster"], expected_raster({(34, 34): (1, 2, 3 + number)}))
        # The other one is in row 4 and column 29: at (9, 59) in a crop that begins at (8, 48).
        assert np.array_equal(dog["image"], picture[8:32, 48:72])
        assert np.array_equal(dog["raster"], expected_raster({(2, 29): (-4, 5, 6 + number)}))
    told = capsys.readouterr().out
    assert "left out: 8 objects with the crop of an object of another class\n" in told
    assert "left out: 8 objects without an area in the picture\n" in told
    assert (
        "next: dvc exp run -S dataset.path=out -S dataset.lidar.orientation=as-is headline report\n" in told
    )
    manifest = run_export(tmp_path / "out", dataset__scene_field="scene", export__image_size=64)
    assert manifest.counts["train"] == manifest.counts["validation"] == {"cat": 4, "dog": 4}


def test_detections_without_tags_and_with_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit_params: Callable[..., Path]
) -> None:
    folder = write_detections(tmp_path / "pictures")
    content = json.loads((folder / "samples.json").read_text())
    for sample in content["samples"]:
        if sample["filepath"].startswith("data/picture7") and sample["group"]["name"] == "rgb":
            sample["filepath"] = "/etc/hostname"
        if sample["filepath"].startswith("data/picture6") and sample["group"]["name"] == "lidar_img":
            del sample["xyza"]
        if sample["filepath"].startswith("data/picture5") and sample["group"]["name"] == "rgb":
            sample["ground_truth"]["detections"][0]["bounding_box"] = [0.5, 0.5]
    (folder / "samples.json").write_text(json.dumps(content))
    edit_params(export__workers=1)
    monkeypatch.chdir(tmp_path)
    ingest.main(["detections", str(folder), "out", "--shares", "1", "1", "1"])
    groups = read_groups(tmp_path / "out")
    splits = {group["scene"]: group["tags"][0] for group in groups.values()}
    assert all(group["tags"] == [splits[group["scene"]]] for group in groups.values())
    assert set(splits.values()) == {"train", "validation", "test"} and len(groups) == 12
    listed = (tmp_path / "out/left_out.txt").read_text().splitlines()
    assert listed[0].startswith("/etc/hostname: outside the dataset's folder")
    assert "pictures: data/picture6: no array in the field that dataset.lidar.field names" in listed[1]
    assert len(listed) == 2
    for values, message in (
        ({"dataset__label_field": "scene"}, "field 'scene' (dataset.label_field) is not an fo.Detections"),
        ({"dataset__label_field": "boxes"}, "no field 'boxes' (dataset.label_field); its fields are"),
        ({"dataset__rgb__slice": "left"}, "no group slice 'left' (dataset.rgb.slice); its slices are"),
        ({"dataset__lidar__format": "pcd"}, "boxes can be cut only from an xyza array"),
    ):
        edit_params(**values)
        with pytest.raises(UserError, match=re.escape(message)):
            ingest.main(["detections", str(folder), "other"])
    edit_params()
    with pytest.raises(UserError, match="is not a FiftyOneDataset"):
        ingest.main(["detections", str(folder / "data"), "other"])
    assert not (tmp_path / "other").exists()


def test_pictures_of_twelve_bits_are_not_cut_dark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Crops have 8 bits, so white has to be found before; also for a thermal camera, whose pictures are refused."""
    folder = write_detections(tmp_path / "pictures")
    for path in folder.rglob("*.png"):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 16).save(path)
    ingest_in_process(monkeypatch, tmp_path, "detections", folder, "out")
    assert "count as 12 bits (white is 4,095)" in capsys.readouterr().err
    grey = np.asarray(Image.open(folder / "data/picture3.png"))[8:32, 8:32].astype(int) * 255 // 4095
    crop = read_groups(tmp_path / "out")["000003-picture3_00"]["image"]
    assert np.array_equal(crop, grey) and crop.max() > 200
    for path in folder.rglob("*.png"):
        Image.fromarray(np.full((40, 80), 30_000, np.uint16)).save(path)
    with pytest.raises(UserError, match=r"temperatures\?.*dataset.rgb.max_value"):
        ingest_in_process(monkeypatch, tmp_path, "detections", folder, "other")


def test_tags_that_are_not_those_of_splits_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_detections(tmp_path / "val", tags=("train", "train", "val", "val"))
    with pytest.raises(
        UserError, match=r"has the tag 'validation' \(dataset.splits.validation\); .* train, val"
    ):
        ingest_in_process(monkeypatch, tmp_path, "detections", folder, "out")
    folder = write_detections(tmp_path / "reviewed", tags=("reviewed",))
    ingest_in_process(monkeypatch, tmp_path, "detections", folder, "out")
    assert "split by shares; the dataset's tags are reviewed" in capsys.readouterr().err


def test_a_dataset_in_folders_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As exported with use_dirs=True: a file for each sample."""
    folder = write_detections(tmp_path / "pictures")
    dataset = fo.Dataset.from_dir(dataset_dir=str(folder), dataset_type=fo.types.FiftyOneDataset)
    out = tmp_path / "in-folders"
    dataset.export(export_dir=str(out), dataset_type=fo.types.FiftyOneDataset, use_dirs=True)
    dataset.delete()
    assert not (out / "samples.json").exists()
    ingest_in_process(monkeypatch, tmp_path, "detections", out, "out")
    assert len(read_groups(tmp_path / "out")) == 16


def change_detections(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edits every detection in samples.json."""
    content = json.loads((folder / "samples.json").read_text())
    for sample in content["samples"]:
        for detection in (sample.get("ground_truth") or {}).get("detections", []):
            change(detection)
    (folder / "samples.json").write_text(json.dumps(content))


def test_boxes_in_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_pixels(detection: dict[str, Any]) -> None:
        detection["bounding_box"] = [
            share * side for share, side in zip(detection["bounding_box"], (80, 40) * 2, strict=True)
        ]

    folder = write_detections(tmp_path / "pictures")
    change_detections(folder, in_pixels)
    with pytest.raises(UserError, match=r"32 of 32 boxes .* are larger .* such as 20 x 20; .* not in pixels"):
        ingest_in_process(monkeypatch, tmp_path, "detections", folder, "out")


def test_numbers_as_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of classes, among them 0."""

    def numbered(detection: dict[str, Any]) -> None:
        detection["label"] = ("cat", "dog").index(detection["label"])

    folder = write_detections(tmp_path / "pictures")
    change_detections(folder, numbered)
    ingest_in_process(monkeypatch, tmp_path, "detections", folder, "out", "--classes", "0", "1")
    labels = [group["label"] for group in read_groups(tmp_path / "out").values()]
    assert sorted(labels) == ["0"] * 8 + ["1"] * 8


def test_scenes_of_any_type_and_contradictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An fo.Classification has an id of its own in every sample; its label is the scene."""
    folder = write_detections(tmp_path / "pictures")
    content = json.loads((folder / "samples.json").read_text())
    for number, sample in enumerate(content["samples"]):
        scene = {"_cls": "Classification", "_id": {"$oid": f"{number:024x}"}, "label": sample.pop("scene")}
        if sample["filepath"].startswith("data/picture7") and sample["group"]["name"] == "rgb":
            scene["label"] = "another"
        sample["place"] = scene
    twin = next(s for s in content["samples"] if s["group"]["name"] == "rgb" and "picture6" in s["filepath"])
    content["samples"].append(twin | {"_id": {"$oid": "f" * 24}})
    (folder / "samples.json").write_text(json.dumps(content))
    meta = json.loads((folder / "metadata.json").read_text())
    for field in meta["sample_fields"]:
        if field["name"] == "scene":
            field |= {
                "name": "place",
                "db_field": "place",
                "ftype": "fiftyone.core.fields.EmbeddedDocumentField",
                "embedded_doc_type": "fiftyone.core.labels.Classification",
            }
    (folder / "metadata.json").write_text(json.dumps(meta))
    text = (ROOT / "params.yaml").read_text().replace("workers: auto", "workers: 1")
    (tmp_path / "params.yaml").write_text(text.replace("scene_field: scene", "scene_field: place"))
    monkeypatch.chdir(tmp_path)
    ingest.main(["detections", str(folder), "out", "--shares", "2", "1", "0"])
    groups = read_groups(tmp_path / "out")
    assert {group["scene"] for group in groups.values()} == {"scene0", "scene1", "scene2"} and len(
        groups
    ) == 12
    listed = "".join(sorted((tmp_path / "out/left_out.txt").read_text().splitlines()))
    assert "picture6.png: several samples in slice 'rgb' of its group, also" in listed
    assert "picture7.png: its slices are of scenes 'another' and 'scene3'" in listed
