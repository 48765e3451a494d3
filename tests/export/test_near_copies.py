"""Near copies across splits are found, listed and shown; different scenes that look alike are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.datasets import fo, write_dataset
from support.project import ROOT

from stages.lib import params
from stages.lib.datasets import rendering, synthetic
from stages.lib.export import group_stats, near_copies, thumbnails
from stages.lib.export.near_copies import NearCopies, Search
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest, NearCopy

SIDE = 64

Tensors = tuple[np.ndarray, np.ndarray]  # images and rasters


@pytest.fixture(scope="module")
def rendered() -> dict[str, Tensors]:
    """The built-in dataset with 300 groups."""
    spec = params.load(ROOT / "params.yaml").synthetic
    spec = replace(spec, groups=300, splits=replace(spec.splits, train=0.5, validation=0.2, test=0.3))
    plan = synthetic.plan(spec)
    found: dict[str, list[rendering.RenderedGroup]] = {}
    for scene, groups in zip(plan, rendering.render(plan, spec, SIDE), strict=True):
        found.setdefault(scene.split, []).extend(groups)
    return {
        split: (
            np.stack([np.moveaxis(group.image, -1, 0) for group in groups]),
            np.stack([group.raster for group in groups]).astype(np.float32),
        )
        for split, groups in found.items()
    }


def search(parts: dict[str, Tensors]) -> NearCopies:
    """Groups are named by their place, such as test-7."""
    found = Search()
    for split, (images, rasters) in parts.items():
        for place, stats in enumerate(group_stats.compute(images, rasters, 50.0)):
            found.add(split, f"{split}-{place}", stats)
    return found.find()


def test_different_scenes_are_no_copies(rendered: dict[str, Tensors]) -> None:
    assert search(rendered) == NearCopies([], {})


def recoded(images: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    changed = images.copy()
    for own in changed:
        own[:3] = np.moveaxis(np.asarray(change(Image.fromarray(np.moveaxis(own[:3], 0, -1)))), -1, 0)
    return changed


def as_jpeg(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75)
    return Image.open(stream)


def cropped(image: Image.Image) -> Image.Image:
    """Without 2 % of its width and height."""
    cut = 0.02 * SIDE
    return image.resize(image.size, Image.Resampling.BICUBIC, box=(cut, 0, SIDE, SIDE - cut))


def brighter(images: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(np.rint(images * factor), 0, 255).astype(np.uint8)


def shifted(tensors: np.ndarray, pixels: int) -> np.ndarray:
    return np.roll(tensors, (pixels, -pixels), (2, 3))


def noisy(rasters: np.ndarray) -> np.ndarray:
    """With 2 cm of range noise, and without 5 % of the returns."""
    rng = np.random.default_rng(0)
    changed = rasters.copy()
    range_m = np.maximum(np.linalg.norm(changed[:, :3], axis=1), 1)
    changed[:, :3] *= (1 + rng.normal(0, 0.02, range_m.shape) / range_m)[:, None]
    return (changed * (rng.random(range_m.shape) >= 0.05)[:, None]).astype(np.float32)


COPIES: dict[str, tuple[float, Callable[[Tensors], Tensors]]] = {
    # Smallest share of the copies that has to be found, and how they are made.
    "JPEG": (0.9, lambda pair: (recoded(pair[0], as_jpeg), pair[1])),
    "cropped": (0.98, lambda pair: (recoded(pair[0], cropped), pair[1])),
    "brighter": (0.97, lambda pair: (brighter(pair[0], 1.15), pair[1])),
    "darker": (0.94, lambda pair: (brighter(pair[0], 0.85), pair[1])),
    "shifted by a pixel": (0.95, lambda pair: (shifted(pair[0], 1), pair[1])),
    "shifted by two pixels": (0.95, lambda pair: (shifted(pair[0], 2), pair[1])),
    "both shifted": (0.7, lambda pair: (shifted(pair[0], 1), shifted(pair[1], 1))),
    "noisy scan": (0.9, lambda pair: (pair[0], noisy(pair[1]))),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found(kind: str, rendered: dict[str, Tensors]) -> None:
    """Those of the test groups, hidden in the training split; nearly black pictures are not compared."""
    least, make = COPIES[kind]
    test, train = rendered["test"], rendered["train"]
    copies = make(test)
    together = (np.concatenate([train[0], copies[0]]), np.concatenate([train[1], copies[1]]))
    found = search({"test": test, "train": together})
    for pair in found.listed:
        place, other = (int(name.split("-")[1]) for name in (pair.group, pair.other_group))
        assert other == len(train[0]) + place, pair
    bright = sum(is_bright(image) for image in test[0])
    assert 50 < bright < len(test[0])
    assert least * bright <= found.counts["test"]["train"] <= bright
    distances = [np.hypot(pair.picture_distance, pair.raster_distance or 0) for pair in found.listed]
    assert distances == sorted(distances)


def is_bright(image: np.ndarray) -> bool:
    small = image[:3].mean(axis=0).reshape(16, 4, 16, 4).mean(axis=(1, 3)) / 255
    padded = np.pad(small, 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return bool(((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4).std() >= 0.02)


def test_dark_constant_and_empty_groups(rendered: dict[str, Tensors]) -> None:
    """A scan alone proves nothing; without returns, the picture alone has to be very close."""
    images, rasters = (part[:20] for part in rendered["test"])
    bright = [i for i, image in enumerate(images) if is_bright(image)]
    images, rasters = images[bright], rasters[bright]
    for same in (np.zeros_like(images), np.full_like(images, 200)):
        assert not search({"test": (same, rasters), "train": (same, rasters)}).listed
    empty = np.zeros_like(rasters)
    found = search({"test": (images, empty), "train": (brighter(images, 0.9), empty)})
    assert found.counts == {"test": {"train": len(images)}}
    assert {pair.raster_distance for pair in found.listed} == {None}
    # The same pictures with the scans of other scenes are no copies.
    assert not search({"test": (images, rasters), "train": (images, np.roll(rasters, 5, axis=0))}).listed


def test_where_all_pictures_are_alike_copies_have_to_be_closer(rendered: dict[str, Tensors]) -> None:
    """A camera that never moves: one background with small changes, in all splits."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 200, (3, 8, 8), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    images = np.stack([scene] * 60)
    for image, place in zip(images, rng.permutation(169), strict=False):
        top, left = 4 * (place // 13), 4 * (place % 13)
        image[:, top : top + 8, left : left + 8] = 255
    raster = rendered["test"][1][:1]
    rasters = np.concatenate([raster] * 60)
    assert not search({"train": (images[:40], rasters[:40]), "test": (images[40:], rasters[40:])}).listed


def test_thumbnails_are_means_of_boxes() -> None:
    """Also of an image with margins whose sides are no multiples of 16."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 50, 50), dtype=np.uint8)
    ones = np.array([0, 0, 1]), np.array([0, 5, 2499])
    found = thumbnails.compute(images, [(50, 50), (20, 50)], *ones, np.array([2.0, 4.0, 5.0]))
    assert found.shape == (2, 2, 16, 16)
    # 50 pixels make boxes of 3 or 4, the first one of 3; 20 rows make boxes of 1 or 2, below 15 rows of margin.
    assert found[0, 0, 0, 0] == pytest.approx(images[0, :, :3, :3].mean() / 255, rel=1e-3)
    assert found[1, 0, 0, 0] == pytest.approx(images[1, :, 15:16, :3].mean() / 255, rel=1e-3)
    assert found[1, 0, -1, -1] == pytest.approx(images[1, :, 33:35, -4:].mean() / 255, rel=1e-3)
    assert found[0, 1, 0, 0] == pytest.approx(0.5 / 9, rel=1e-3)
    assert found[0, 1, 0, 1] == pytest.approx(0.25 / 9, rel=1e-3)
    assert found[0, 1].astype(float).sum() == pytest.approx(0.75 / 9, rel=1e-3)


def hide_copies(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
    """Test group 4 is a brighter training group 0, with its scan but for one return."""
    if number == 0:
        hide_copies.first = scan["xyza"]  # type: ignore[attr-defined]
        hide_copies.picture = smooth_picture()  # type: ignore[attr-defined]
        Image.fromarray(hide_copies.picture).save(rgb.filepath)  # type: ignore[attr-defined]
    if number == 4:
        raster = hide_copies.first.copy()  # type: ignore[attr-defined]
        raster[:, *np.argwhere(raster[3])[0]] = 0
        scan["xyza"] = raster
        Image.fromarray(brighter(hide_copies.picture, 1.1)).save(rgb.filepath)  # type: ignore[attr-defined]


def smooth_picture() -> np.ndarray:
    small = np.random.default_rng(5).integers(0, 200, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((24, 24), Image.Resampling.BICUBIC))


def test_the_export_lists_and_shows_them(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(write_dataset(tmp_path / "data", change=hide_copies), figures=True)
    (pair,) = manifest.near_copies
    assert (pair.split, pair.other_split) == ("test", "train")
    assert pair.group.endswith("004") and pair.other_group.endswith("000")
    assert manifest.near_copy_counts == {"test": {"train": 1}}
    (warning,) = [line for line in manifest.warnings if "near copy" in line]
    assert "1 test group has a near copy in the train split" in warning and "dataset.scene_field" in warning
    drawn = np.asarray(Image.open(manifests.FOLDER / manifests.FIGURES / "near_copies.png").convert("L"))
    assert min(drawn.shape) > 100 and drawn.std() > 5
    assert manifests.load(manifests.FOLDER) == manifest


def test_the_list_is_capped_and_the_count_is_not(
    rendered: dict[str, Tensors], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_copies, "MOST_LISTED", 10)
    found = search({"test": rendered["test"], "train": rendered["test"]})
    assert len(found.listed) == 10 and found.counts["test"]["train"] > 50
    assert all(isinstance(pair, NearCopy) for pair in found.listed)
    assert f"{found.counts['test']['train']} test groups have a near copy" in (found.warning() or "")
