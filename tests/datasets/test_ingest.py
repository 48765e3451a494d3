"""Raw folders as the course's, complete and damaged, become a dataset that the pipeline reads."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.datasets import ANGLES, fo, write_raw
from support.project import ROOT

from scripts import ingest
from stages.lib.core.errors import UserError
from stages.lib.lidar import geometry
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split

RAW_ANGLES = ANGLES.astype(np.float32)


def run_ingest(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.ingest", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Raw folders with every error, the dataset made of them, and the output."""
    base = tmp_path_factory.mktemp("ingest")
    raw = write_raw(base / "raw", {"cubes": range(20), "spheres": range(12)}, nested=("spheres",))
    (raw / "cubes/rgb/0003.png").unlink()
    (raw / "spheres/lidar/lidar/0005.npy").unlink()
    (raw / "cubes/lidar/0007.npy").write_bytes(b"no array")
    (raw / "cubes/rgb/0008.jpg").write_bytes(b"a second image of this name")
    (raw / "cubes/rgb/notes.txt").write_text("not an image")
    (raw / "spheres/rgb/0009.png").write_bytes(b"no image")
    (raw / "cones/RGB").mkdir(parents=True)
    (raw / "cones/RGB/0000.png").write_bytes(b"of a class without scans")
    done = run_ingest(raw, base / "dataset")
    assert done.returncode == 0, done.stderr
    return raw, base / "dataset", done.stdout


def test_every_unpaired_file_is_listed(broken: tuple[Path, Path, str]) -> None:
    raw, dataset, told = broken
    listed = (dataset / "left_out.txt").read_text().splitlines()
    expected = {
        "cubes/lidar/0003.npy: no image of this name",
        "spheres/rgb/0005.png: no scan of this name",
        "cubes/rgb/0007.png: unreadable pair",
        "cubes/rgb/0008.jpg: 2 images and 1 scans of this name",
        "cubes/rgb/0008.png: 2 images and 1 scans of this name",
        "cubes/lidar/0008.npy: 2 images and 1 scans of this name",
        "cubes/rgb/notes.txt: none of .png, .jpg, .jpeg",
        "spheres/rgb/0009.png: unreadable pair",
        "cones/RGB/0000.png: not in rgb/ or lidar/ of a class; a class is a folder with both",
    }
    lines = {f"{raw}/{line}" for line in expected}
    assert lines < set(listed) and len(listed) == len(lines) + 2
    for path, reason in (
        ("cubes/lidar/0007.npy", f"{raw}/cubes/lidar/0007.npy: unreadable array"),
        ("spheres/lidar/lidar/0009.npy", f"{raw}/spheres/rgb/0009.png: unreadable image"),
    ):
        assert any(line.startswith(f"{raw}/{path}: unreadable pair; {reason}") for line in listed)
    assert all(f"left out: {line}" in told for line in listed)


def test_pairs_are_formed_by_name(broken: tuple[Path, Path, str]) -> None:
    raw, folder, _ = broken
    dataset = fo.Dataset.from_dir(dataset_dir=str(folder), dataset_type=fo.types.FiftyOneDataset)
    try:
        assert dataset.info["azimuth_cubes"] == pytest.approx(RAW_ANGLES.tolist())
        assert dataset.info["zenith_spheres"] == pytest.approx(RAW_ANGLES.tolist())
        groups = list(dataset.iter_groups())
        assert len(groups) == 17 + 10
        split_of_scene: dict[str, set[str]] = {}
        for group in groups:
            rgb, scan = group["rgb"], group["lidar_img"]
            label, stem = rgb.ground_truth.label, Path(rgb.filepath).stem
            assert rgb.scene == scan.scene == stem
            split_of_scene.setdefault(stem, set()).update(rgb.tags)
            assert Path(rgb.filepath).read_bytes() == (raw / label / "rgb" / f"{stem}.png").read_bytes()
            (path,) = (raw / label / "lidar").rglob(f"{stem}.npy")
            angles = RAW_ANGLES.astype(np.float64)
            right = geometry.raster_from_range(np.load(path).astype(np.float64), angles, angles, 50.0)
            assert np.array_equal(scan.xyza, right)
        # A cube and a sphere of one name show the same scene, so they must be in the same split.
        assert all(len(splits) == 1 for splits in split_of_scene.values())
        assert set.union(*split_of_scene.values()) == {"train", "validation", "test"}
    finally:
        dataset.delete()


def test_the_pipeline_takes_it(broken: tuple[Path, Path, str], run_export: Callable[..., Manifest]) -> None:
    """Only its path has to be set: fields, slices, tags and scenes have the names of params.yaml."""
    orientation = {"dataset__lidar__orientation": "rotate-90", "dataset__scene_field": "scene"}
    manifest = run_export(broken[1], **orientation)
    assert manifest.classes == ["cubes", "spheres"] and manifest.channels == {"rgb": 4, "lidar": 4}
    assert sum(sum(counts.values()) for counts in manifest.counts.values()) == 27
    assert len(Split(manifests.FOLDER, manifest, "test")) == sum(manifest.counts["test"].values())


def test_a_relative_path_and_the_same_bytes_again(
    broken: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch, edit_params: Callable[..., Path]
) -> None:
    folder = edit_params().parent
    monkeypatch.chdir(folder)
    (folder / "raw").symlink_to(broken[0])
    ingest.main(["raw", "data/again"])
    for name in ("samples.json", "metadata.json"):
        again = (folder / "data" / "again" / name).read_text()
        assert again.replace('"again"', '"dataset"') == (broken[1] / name).read_text()


def test_unusable_folders_are_errors_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_raw(tmp_path / "raw", {"cubes": range(4), "spheres": range(4, 8)})
    (tmp_path / "there").mkdir()
    for label in ("cubes", "spheres"):
        for path in (raw / label / "lidar").glob("*.npy"):
            path.rename(path.with_stem(f"other-{path.stem}"))
    empty = tmp_path / "empty"
    empty.mkdir()
    no_angles = write_raw(tmp_path / "no-angles", {"cubes": range(4), "spheres": range(4)})
    (no_angles / "spheres/zenith.npy").unlink()
    few = write_raw(tmp_path / "few", {"cubes": range(2), "spheres": range(2)})
    mismatch = write_raw(tmp_path / "mismatch", {"cubes": range(4), "spheres": range(4)})
    for label in ("cubes", "spheres"):
        np.save(mismatch / label / "azimuth.npy", ANGLES[:-1])
    for arguments, message in (
        ((tmp_path / "nowhere", tmp_path / "out"), "nowhere: no such folder"),
        ((raw, tmp_path / "there"), "there: exists already"),
        ((empty, tmp_path / "out"), "no folder with rgb/ and lidar/ in it"),
        ((raw, tmp_path / "out"), "16 files have no counterpart, such as"),
        ((no_angles, tmp_path / "out"), "spheres: no azimuth.npy and zenith.npy"),
        ((few, tmp_path / "out"), "too few pairs: 4 in all"),
        ((mismatch, tmp_path / "out"), "no pair is readable; the first one"),
        ((raw,), "usage: python -m scripts.ingest RAW OUT"),
    ):
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            ingest.main([*map(str, arguments)])
        assert len(str(caught.value).splitlines()) == 1 and not (tmp_path / "out").exists()
