"""The built-in dataset: its bytes, its geometry, its difficulty."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pypcd4 import PointCloud
from scipy.spatial.transform import Rotation
from support.datasets import fo
from support.project import Project, committed

from stages import synthesize
from stages.lib import params
from stages.lib.datasets import rendering, synthetic
from stages.lib.datasets.rendering import Renderer
from stages.lib.datasets.synthetic import Scene
from stages.lib.lidar import geometry


@pytest.fixture(scope="module")
def dataset(shared_clone: Project) -> fo.Dataset:
    loaded = fo.Dataset.from_dir(
        dataset_dir=str(shared_clone.path("data/synthetic")), dataset_type=fo.types.FiftyOneDataset
    )
    yield loaded
    loaded.delete()


def test_it_is_a_grouped_dataset_that_the_app_shows(dataset: fo.Dataset) -> None:
    assert dataset.media_type == "group"
    assert dataset.group_media_types == {"rgb": "image", "lidar_img": "image", "lidar_pcd": "point-cloud"}
    assert sorted(dataset.distinct("tags")) == ["test", "train", "validation"]
    assert dataset.distinct("ground_truth.label") == ["cubes", "spheres"]
    assert len(dataset) == 40
    for group in dataset.iter_groups():
        assert len({sample.scene for sample in group.values()}) == 1


def test_images_rasters_and_clouds_agree(dataset: fo.Dataset) -> None:
    for group in dataset.limit(6).iter_groups():
        image = Image.open(group["rgb"].filepath)
        assert image.mode == "RGBA" and image.size == (64, 64)
        assert np.asarray(image)[..., 3].min() == 255
        assert np.median(np.asarray(image)[..., :3]) < 10, "the background is black"
        raster = group["lidar_img"].xyza
        assert raster.shape == (4, 64, 64) and raster.dtype == np.float32
        cloud = PointCloud.from_path(group["lidar_pcd"].filepath).numpy(("x", "y", "z"))
        assert np.allclose(cloud, raster[:3, raster[3] > 0].T)
        assert np.asarray(Image.open(group["lidar_img"].filepath)).shape == (64, 64, 3)


def test_points_lie_on_the_rays_of_their_cells(dataset: fo.Dataset) -> None:
    rays = np.moveaxis(geometry.directions(synthetic.angles_rad(64), synthetic.angles_rad(64)), -1, 0)
    sample = next(dataset.select_group_slices("lidar_img").iter_samples())
    returned = sample.xyza[3] > 0
    points = sample.xyza[:3, returned]
    assert np.allclose(points / np.linalg.norm(points, axis=0), rays[:, returned], atol=1e-5)


def test_angles_are_the_courses() -> None:
    angles = synthetic.angles_rad(64)
    assert angles[0] == pytest.approx(-0.27925, abs=1e-5)
    assert angles[-1] == pytest.approx(0.27053, abs=1e-5)
    assert np.diff(angles) == pytest.approx(np.full(63, np.deg2rad(0.5)), abs=1e-5)


def test_xyza_by_hand() -> None:
    raster = geometry.raster_from_range(np.array([[10.0, 60.0]]), np.array([0.1]), np.array([0.2, 0.2]), 50.0)
    expected = [10 * np.sin(-0.1) * np.cos(-0.2), 10 * np.cos(-0.1) * np.cos(-0.2), 10 * np.sin(-0.2), 1]
    assert raster[:, 0, 0] == pytest.approx(expected)
    assert (raster[:, 0, 1] == 0).all()


def test_a_sphere_has_its_own_ranges() -> None:
    """Rendered ranges equal the distances to a sphere by its formula."""
    center, radius = np.array([0.5, 18.0, -0.3]), 1.3
    scene = Scene(center, radius, np.ones(3), np.array([0.0, -1.0, 0.0]))
    rendered = Renderer(64).range_image("spheres", scene, Rotation.identity())
    rays = geometry.directions(synthetic.angles_rad(64), synthetic.angles_rad(64))
    along = rays @ center
    inside = radius**2 - (center @ center - along**2)
    hit = inside > 0.05  # not near the rim, where the polyhedron differs from a sphere
    assert np.allclose(rendered[hit], (along - np.sqrt(np.maximum(inside, 0)))[hit], atol=0.01)
    assert np.isinf(rendered[inside < -0.05]).all()


def test_image_and_turned_raster_show_the_object_at_the_same_place() -> None:
    center = 15.0 * geometry.directions(np.array([0.08]), np.array([-0.05]))[0, 0]
    scene = Scene(center, 1.3, np.ones(3), -center / 15.0)
    renderer = Renderer(64)
    image = renderer.image("cubes", scene, Rotation.identity()).max(axis=-1) > 0
    scanned = np.isfinite(renderer.range_image("cubes", scene, Rotation.identity()))
    aligned = geometry.ORIENTATIONS["rotate-90"](scanned)
    agreement = (image & aligned).sum() / (image | aligned).sum()
    assert agreement > 0.8
    assert (image & scanned).sum() / (image | scanned).sum() < 0.5


def test_bytes_follow_from_the_seed(
    shared_clone: Project, monkeypatch: pytest.MonkeyPatch, edit_params: Callable[..., Path]
) -> None:
    """Another seed gives other bytes; test_pipeline shows that the same seed gives the same bytes."""
    monkeypatch.chdir(edit_params(synthetic__groups=40, synthetic__seed=8).parent)
    synthesize.main()
    first, other = files_of(shared_clone.path("data/synthetic")), files_of(synthetic.FOLDER)
    assert other.keys() == first.keys()
    assert other["samples.json"] != first["samples.json"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_notebooks_balance_is_one_override_away() -> None:
    spec = replace(params.load().synthetic, groups=1076, class_balance="1009:67")
    labels = [label for scene in synthetic.plan(spec) for label in scene.labels]
    assert (labels.count("cubes"), labels.count("spheres")) == (1009, 67)
    for split in ("train", "validation", "test"):
        shown = {label for scene in synthetic.plan(spec) if scene.split == split for label in scene.labels}
        assert shown == {"cubes", "spheres"}


def test_the_shape_cannot_be_read_off_the_size() -> None:
    """In the committed run, the number of returns alone gives a balanced accuracy below 0.75 on the test split."""
    statistics = json.loads(committed("reports/statistics.json"))
    figures = statistics["models"]["return_count"]["metrics"]["test"]
    assert figures["balanced_accuracy"]["mean"] < 0.75


def test_sensors_fail_independently() -> None:
    """Dark images and weak scans occur at their rates, and together at the product of their rates."""
    spec = params.load().synthetic
    scene = Scene(np.array([0.0, 15.0, 0.0]), 1.3, np.ones(3), np.array([0.0, -1.0, 0.0]))
    renderer = Renderer(64)
    image = renderer.image("spheres", scene, Rotation.identity())
    range_m = renderer.range_image("spheres", scene, Rotation.identity())
    rng = np.random.default_rng(0)
    dark, weak = [], []
    for _ in range(600):
        shown, camera_failures = rendering.degrade_image(image, rng, spec.rgb)
        dark.append(shown[..., :3].max() < 60)
        assert camera_failures == (["dark"] if dark[-1] else [])
        degraded, lidar_failures = rendering.degrade_ranges(range_m, rng, spec.lidar)
        weak.append(np.isfinite(degraded).sum() < 0.5 * np.isfinite(range_m).sum())
        assert weak[-1] == bool({"sparse", "partial"} & set(lidar_failures))
    dark, weak = np.array(dark), np.array(weak)
    assert dark.mean() == pytest.approx(spec.rgb.dark_probability, abs=0.05)
    expected = 1 - (1 - spec.lidar.sparse_probability) * (1 - spec.lidar.partial_probability)
    assert weak.mean() == pytest.approx(expected, abs=0.06)
    assert (dark & weak).mean() == pytest.approx(dark.mean() * weak.mean(), abs=0.03)


def test_states_say_what_failed() -> None:
    """Each sensor always fails in one way, then in two, then never."""
    spec = replace(params.load().synthetic, groups=12)
    never = {"sparse_probability": 0.0, "blur_probability": 0.0, "partial_probability": 0.0}
    for expected, dark, crescent, often in (
        (("dark", "sparse"), 1.0, 0.0, {"sparse_probability": 1.0}),
        (("crescent", "blurred"), 0.0, 1.0, {"blur_probability": 1.0}),
        (
            ("several failures", "several failures"),
            1.0,
            1.0,
            {"blur_probability": 1.0, "partial_probability": 1.0},
        ),
        (("normal", "normal"), 0.0, 0.0, {}),
    ):
        changed = replace(
            spec,
            crescent_probability=crescent,
            rgb=replace(spec.rgb, dark_probability=dark),
            lidar=replace(spec.lidar, **(never | often)),
        )
        (first, second), *_ = rendering.render(synthetic.plan(changed)[:1], changed, 16)
        assert (first.fields["camera_state"], first.fields["lidar_state"]) == expected
        assert first.fields["distance_m"] == second.fields["distance_m"]
        assert spec.distance_m[0] <= first.fields["distance_m"] <= spec.distance_m[1]


def test_metrics_of_the_committed_run() -> None:
    """The best fusion has a higher mean than both unimodal nets, and at least 0.90, as the README says."""
    models = json.loads(committed("reports/statistics.json"))["models"]
    balanced = {name: m["metrics"]["test"]["balanced_accuracy"]["mean"] for name, m in models.items()}
    fusions = [name for name, model in models.items() if model["kind"] in ("intermediate", "late")]
    best = max(balanced[name] for name in fusions)
    assert best >= 0.90
    assert best > max(balanced["rgb"], balanced["lidar"])
