"""Decoding for a prediction gives the tensors of the export, for every way of storing scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pypcd4 import PointCloud
from support.datasets import ANGLES, range_image, stored_as, to_xyz, write_dataset

from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.datasets import prediction_groups
from stages.lib.datasets.validation import DataChecks
from stages.lib.deployment import decoding, prediction
from stages.lib.deployment.prediction import DecodedGroup
from stages.lib.export import plan
from stages.lib.export.decode import Pool
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors import samples
from stages.lib.tensors.manifest import Manifest

INFO: dict[str, object] = {"azimuth": ANGLES.tolist(), "zenith": ANGLES.tolist()}


def write_range(number: int, path: Path) -> Path:
    np.save(path.with_suffix(".npy"), range_image(number))
    return path.with_suffix(".npy")


def write_cloud(number: int, path: Path) -> Path:
    points = np.random.default_rng(number).normal([0, 20, 0], 2, (200, 3)).astype(np.float32)
    PointCloud.from_xyz_points(points).save(path.with_suffix(".pcd"))
    return path.with_suffix(".pcd")


FORMATS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "xyza": ({"size": (20, 30)}, {"dataset__lidar__orientation": "rotate-90"}),
    "xyz": (
        {"change": stored_as("points", to_xyz)},
        {"dataset__lidar__format": "xyz", "dataset__lidar__field": "points"},
    ),
    "npy": (
        {"write_scan": write_range, "info": INFO},
        {"dataset__lidar__format": "npy", "dataset__lidar__field": None},
    ),
    "pcd": (
        {"write_scan": write_cloud, "size": (20, 30)},
        {"dataset__lidar__format": "pcd", "dataset__lidar__field": None},
    ),
}


@pytest.fixture
def decoded(
    edit_params: Callable[..., Path], decoding_process: Pool
) -> Callable[..., tuple[list[DecodedGroup], list[str]]]:
    """Decodes the groups of a folder for a model of this manifest."""

    def found(
        folder: Path, manifest: Manifest, *, sensors: tuple[str, ...] = SENSORS, **values: Any
    ) -> tuple[list[DecodedGroup], list[str]]:
        settings = params.load(edit_params(dataset__path=str(folder), dataset__scene_field=None, **values))
        dataset, export = settings.dataset, settings.export
        checks = DataChecks(dataset.path, export.on_error)
        with prediction_groups.opened(
            dataset, checks, sensors=sensors, tag=None, needs_labels=False
        ) as reader:
            sample = plan.sample_jobs(reader, reader.groups, dataset, export.max_pixels)
            paths = [group.image_path for group in reader.groups]
            how, warnings = decoding.settings_of(
                manifest, dataset, export, sensors, sample, paths, decoding_process
            )
            return list(prediction.decoded(reader, dataset, how, decoding_process)), warnings

    return found


@pytest.mark.parametrize("name", FORMATS)
def test_tensors_are_the_exports(
    name: str,
    tmp_path: Path,
    run_export: Callable[..., Manifest],
    decoded: Callable[..., tuple[list[DecodedGroup], list[str]]],
) -> None:
    written, values = FORMATS[name]
    folder = write_dataset(tmp_path / "data", groups=15, **written)
    manifest = run_export(folder, **values)
    # Size and orientation come from the manifest: params.yaml has others here.
    found, _ = decoded(folder, manifest, **(values | {"dataset__lidar__orientation": "transpose"}))
    by_key = {each.group.key: each for each in found}
    assert len(by_key) == 15
    compared = 0
    for split in manifest.splits():
        for index, group in enumerate(stored_groups.read(manifests.FOLDER, split)):
            each = by_key[group.group]
            image, raster = samples.read(manifests.FOLDER, manifest, split, index)
            np.testing.assert_array_equal(each.measured.images[each.row], image)
            np.testing.assert_array_equal(each.measured.rasters[each.row], raster)
            compared += int(raster[3].sum()) > 0
    assert compared == 15
    assert not any(each.measured.missing[sensor][each.row] for each in found for sensor in SENSORS)


@pytest.mark.parametrize("name", ["xyza", "npy", "pcd"])
def test_rasters_without_their_images(
    name: str,
    tmp_path: Path,
    run_export: Callable[..., Manifest],
    decoded: Callable[..., tuple[list[DecodedGroup], list[str]]],
) -> None:
    """They fill the same cells as with their images, where these are as wide as usual."""
    written, values = FORMATS[name]
    folder = write_dataset(tmp_path / "data", groups=15, **written)
    manifest = run_export(folder, **values)
    expected, _ = decoded(folder, manifest, **values)
    pictures = sorted(
        path
        for path in (*folder.rglob("*.png"), *folder.parent.glob("data-media/*.png"))
        if "depth" not in path.name
    )
    kept = {path for path in pictures if path.stem == "000"}
    for path in set(pictures) - kept:
        path.unlink()
    found, _ = decoded(folder, manifest, **values)
    missing = 0
    for each, before in zip(found, expected, strict=True):
        missing += bool(each.measured.missing["rgb"][each.row])
        np.testing.assert_array_equal(each.measured.rasters[each.row], before.measured.rasters[before.row])
    assert missing == 14


def test_point_clouds_need_a_model_of_point_clouds(
    tmp_path: Path,
    run_export: Callable[..., Manifest],
    decoded: Callable[..., tuple[list[DecodedGroup], list[str]]],
) -> None:
    written, values = FORMATS["pcd"]
    folder = write_dataset(tmp_path / "data", groups=15, **written)
    manifest = replace(run_export(folder, **values), field_of_view_deg=None)
    with pytest.raises(UserError, match="the model was not trained on point clouds"):
        decoded(folder, manifest, **values)


def test_a_damaged_file_is_an_error_of_its_group(
    tmp_path: Path,
    run_export: Callable[..., Manifest],
    decoded: Callable[..., tuple[list[DecodedGroup], list[str]]],
) -> None:
    written, values = FORMATS["npy"]
    folder = write_dataset(tmp_path / "data", groups=15, **written)
    manifest = run_export(folder, **values)
    damaged = next(path for path in sorted(folder.rglob("*.npy")) if path.stem.endswith("-scan"))
    damaged.write_bytes(b"nothing")
    found, _ = decoded(folder, manifest, **values)
    errors = [each.measured.errors.get(each.row) for each in found]
    assert [str(damaged) in (error or "") for error in errors].count(True) == 1
    assert errors.count(None) == 14
    found, _ = decoded(folder, manifest, sensors=("rgb",), **(values | {"dataset__lidar__field": None}))
    assert all(each.measured.missing["lidar"][each.row] for each in found)


def test_condition_fields_do_not_matter(tmp_path: Path, edit_params: Callable[..., Path]) -> None:
    """What the export would refuse as a condition is no reason to refuse a prediction."""

    def change(number: int, rgb: Any, scan: Any) -> None:
        rgb["weather"] = ["rain", "night"]

    folder = write_dataset(tmp_path / "data", groups=5, change=change)
    values = {"dataset__path": str(folder), "dataset__condition_fields": ["weather"]}
    dataset = params.load(edit_params(dataset__scene_field=None, **values)).dataset
    checks = DataChecks(dataset.path, "stop")
    with prediction_groups.opened(dataset, checks, sensors=SENSORS, tag=None, needs_labels=False) as reader:
        assert len(reader.groups) == 5
