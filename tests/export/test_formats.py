"""Every supported format of scans and images, in datasets that FiftyOne has written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pypcd4 import Encoding, PointCloud
from support.datasets import ANGLES, fo, range_image, stored_as, to_xyz, to_xyza, write_dataset

from stages.lib.core.errors import UserError
from stages.lib.export import images
from stages.lib.lidar import geometry
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors import samples
from stages.lib.tensors.manifest import Manifest


def expected(group: stored_groups.CachedGroup) -> np.ndarray:
    return geometry.raster_from_range(range_image(int(Path(group.group).name)), ANGLES, ANGLES, 50.0)


def assert_cache_is_right(manifest: Manifest, tolerance: float = 1e-5) -> None:
    """Each group of the training split has the raster that follows from its ranges and angles."""
    groups = stored_groups.read(manifests.FOLDER, "train")
    assert len(groups) == 18
    for index, group in enumerate(groups):
        assert np.allclose(
            samples.read(manifests.FOLDER, manifest, "train", index)[1], expected(group), atol=tolerance
        )


@pytest.mark.parametrize(("form", "convert"), [("xyza", to_xyza), ("xyz", to_xyz)])
def test_arrays_of_points(
    tmp_path: Path, run_export: Callable[..., Manifest], form: str, convert: Callable[..., np.ndarray]
) -> None:
    folder = write_dataset(tmp_path / "data", change=stored_as("points", convert))
    assert_cache_is_right(run_export(folder, dataset__lidar__format=form, dataset__lidar__field="points"))


@pytest.mark.parametrize("place", ["info", "info per class", "file"])
def test_range_images(tmp_path: Path, run_export: Callable[..., Manifest], place: str) -> None:
    angles = ANGLES.tolist()
    info = {
        "info": {"azimuth": angles, "zenith": angles},
        "info per class": {
            f"{kind}_{c}": angles for kind in ("azimuth", "zenith") for c in ("ball", "cone", "cube")
        },
        "file": {},
    }[place]
    folder = write_dataset(tmp_path / "data", change=stored_as("range", lambda range_m: range_m), info=info)
    if place == "file":
        for name in ("azimuth", "zenith"):
            np.save(folder / f"{name}.npy", ANGLES)
    assert_cache_is_right(run_export(folder, dataset__lidar__format="range", dataset__lidar__field="range"))


def test_range_images_without_angles(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(tmp_path / "data", change=stored_as("range", lambda range_m: range_m))
    with pytest.raises(UserError, match="no angles for this range image"):
        run_export(folder, dataset__lidar__format="range", dataset__lidar__field="range")


def write_npy(number: int, path: Path) -> Path:
    np.save(path.with_suffix(".npy"), range_image(number))
    return path.with_suffix(".npy")


def test_npy_files(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(tmp_path / "data", write_scan=write_npy)
    for name in ("azimuth", "zenith"):
        np.save(folder / "data" / f"{name}.npy", ANGLES)
    assert_cache_is_right(run_export(folder, dataset__lidar__format="npy", dataset__lidar__field=None))


@pytest.mark.parametrize("encoding", list(Encoding), ids=lambda encoding: encoding.value)
def test_point_clouds(tmp_path: Path, run_export: Callable[..., Manifest], encoding: Encoding) -> None:
    def write_cloud(number: int, path: Path) -> Path:
        raster = to_xyza(range_image(number))
        cloud = PointCloud.from_xyz_points(raster[:3, raster[3] > 0].T)
        cloud.save(path.with_suffix(".pcd"), encoding=encoding)
        return path.with_suffix(".pcd")

    folder = write_dataset(tmp_path / "data", write_scan=write_cloud)
    bounds = np.rad2deg(ANGLES[[0, -1]]).tolist()
    settings = {"dataset__lidar__format": "pcd", "dataset__lidar__field": None}
    view = {"azimuth": bounds, "zenith": bounds}
    manifest = run_export(folder, **settings, dataset__lidar__field_of_view_deg=view)
    assert_cache_is_right(manifest, tolerance=1e-3)
    # Every ray has a return in some scan of the training split, so the fitted field of view is the true one.
    fitted = run_export(folder, **settings)
    assert_cache_is_right(fitted, tolerance=1e-3)
    for exported in (manifest, fitted):
        assert exported.field_of_view_deg is not None
        for found in exported.field_of_view_deg.values():
            assert found == pytest.approx(bounds, abs=1e-3)


def test_the_nearest_point_wins() -> None:
    from stages.lib.lidar import projection

    points = np.array([[0, 20, 0], [0, 10, 0], [0, 30, 0], [np.nan, 1, 1], [0, 60, 0]], dtype=np.float32)
    view = projection.FieldOfView((-0.1, 0.1), (-0.1, 0.1))
    raster, _ = projection.from_cloud(points, view, (3, 3), 50.0)
    assert raster[:, 1, 1].tolist() == [0, 10, 0, 1]
    assert raster[3].sum() == 1


def sixteen_bit(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
    Image.fromarray(np.full((24, 24), 257 * (number + 1), dtype=np.uint16)).save(rgb.filepath)


def test_sixteen_bit_images(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(write_dataset(tmp_path / "data", change=sixteen_bit))
    groups = stored_groups.read(manifests.FOLDER, "train")
    assert manifest.channels["rgb"] == 1
    for index, group in enumerate(groups):
        assert set(samples.read(manifests.FOLDER, manifest, "train", index)[0].ravel().tolist()) == {
            int(Path(group.group).name) + 1
        }


def test_jpegs_are_read_and_turned_as_their_exif_says(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # means: turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    read = images.read_image(tmp_path / "a.jpg", 16, 1000).pixels
    assert read[:, :7].mean() > 240 and read[:, 9:].mean() < 15


def test_wide_images_keep_their_proportions(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), "white").save(tmp_path / "a.png")
    read = images.read_image(tmp_path / "a.png", 16, 1000).pixels
    assert (read[:, 4:12] == 255).all() and (read[:, :4] == 0).all() and (read[:, 12:] == 0).all()
