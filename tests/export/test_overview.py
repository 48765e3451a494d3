"""The figures of the data, and the statistics of each group that they show."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.datasets import write_dataset
from support.project import Project

from stages.lib.export import group_stats, overview
from stages.lib.export.overview import Overview
from stages.lib.lidar import geometry
from stages.lib.plots.style import Figure
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors import samples
from stages.lib.tensors.manifest import Manifest

FIGURES = ["class_balance", "histograms", "samples_test", "samples_train", "samples_validation"]


def raster(ranges_m: list[float]) -> np.ndarray:
    """Returns straight ahead, one in each cell of the first row."""
    raster = np.zeros((4, 8, 8), dtype=np.float32)
    raster[1, 0, : len(ranges_m)], raster[3, 0, : len(ranges_m)] = ranges_m, 1
    return raster


def test_facts_about_groups() -> None:
    """Of several groups together and of each alone: no group may change the statistics of another."""
    images = np.zeros((3, 4, 8, 8), dtype=np.uint8)
    images[:, 3], images[0, 0, 0, 0], images[2, 1] = 255, 51, 102
    rasters = np.stack([raster([10.0, 20.0, 60.0]), raster([]), raster([5.0])])
    facts = group_stats.compute(images, rasters, 50.0)
    assert [fact.returns for fact in facts] == [3, 0, 1]
    assert [fact.mean_range_m for fact in facts] == pytest.approx([30, 0, 5])
    assert [np.flatnonzero(fact.range_counts).tolist() for fact in facts] == [[10, 20, 49], [], [5]]
    assert [fact.relief_squares for fact in facts] == pytest.approx([20**2 + 10**2 + 30**2, 0, 0])
    assert [fact.brightness for fact in facts] == pytest.approx([0.2 / (3 * 64), 0, 0.4 / 3])
    assert [fact.is_constant for fact in facts] == [False, True, True]
    assert facts[0].color_sums[:, 0].tolist() == pytest.approx([0.2, 0.04])
    assert facts[1].alignment is None and facts[2].alignment is None and facts[0].alignment is not None
    for i, fact in enumerate(facts):
        (alone,) = group_stats.compute(images[i : i + 1], rasters[i : i + 1], 50.0)
        assert (alone.image_digest, alone.raster_digest) == (fact.image_digest, fact.raster_digest)
    assert len({fact.raster_digest for fact in facts}) == len({fact.image_digest for fact in facts}) == 3


def test_a_return_at_the_origin_or_elsewhere_changes_the_digest() -> None:
    """The cell of a return counts, even when its coordinates are the same."""
    rasters = np.zeros((3, 4, 8, 8), dtype=np.float32)
    rasters[1, 3, 0, 0] = rasters[2, 3, 0, 1] = 1
    facts = group_stats.compute(np.zeros((3, 3, 8, 8), np.uint8), rasters, 50.0)
    assert len({fact.raster_digest for fact in facts}) == 3


def test_alignment_scores_are_correlations() -> None:
    """The same as numpy's, for each orientation of the raster."""
    rng = np.random.default_rng(0)
    foreground, returned = rng.random((2, 8, 8)).astype(np.float32), rng.random((2, 8, 8)) < 0.3
    groups, rows, columns = np.nonzero(returned)
    found = group_stats.alignment_scores(foreground.reshape(2, -1), groups, rows * 8 + columns)
    for scores, image, raster in zip(found, foreground, returned, strict=True):
        assert scores is not None
        for score, turn in zip(scores, geometry.ORIENTATIONS.values(), strict=True):
            right = np.corrcoef(image.ravel(), turn(raster).ravel())[0, 1]
            assert score == pytest.approx(right, abs=1e-6)


def sheet_of(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def test_contact_sheet_shows_each_class(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    """Images of the cache above depth images, in two rows for each class."""
    manifest = run_export(write_dataset(tmp_path / "data"))
    figure = overview.contact_sheet(manifests.FOLDER, manifest, "validation")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["ball\nRGB", "LiDAR", "cone\nRGB", "LiDAR", "cube\nRGB", "LiDAR"]
    sheet = sheet_of(figure)
    groups = stored_groups.read(manifests.FOLDER, "validation")
    first = next(i for i, group in enumerate(groups) if group.label == 0)
    image, raster = samples.read(manifests.FOLDER, manifest, "validation", first)
    assert np.array_equal(sheet[:24, :24], np.moveaxis(image, 0, -1))
    assert np.array_equal(sheet[25:49, :24].any(axis=-1), raster[3] > 0)


def test_figures_are_written_with_the_cache(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    run_export(write_dataset(tmp_path / "data"), figures=True)
    paths = sorted((manifests.FOLDER / manifests.FIGURES).glob("*.png"))
    assert [path.stem for path in paths] == FIGURES
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("L"))
        assert min(pixels.shape) > 100 and pixels.std() > 5
        # Nothing touches the left border, so labels are not cut off.
        assert (pixels[:, 0] == pixels[0, 0]).all(), path


def test_histograms_count_every_return(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(write_dataset(tmp_path / "data"))
    drawn = Overview(50.0)
    groups = stored_groups.read(manifests.FOLDER, "train")
    for index, group in enumerate(groups):
        image, raster = samples.read(manifests.FOLDER, manifest, "train", index)
        (stats,) = group_stats.compute(image[None], raster[None], 50.0)
        drawn.add("train", manifest.classes[group.label], stats)
    ranges, returns, brightness = drawn._histogram(manifest.classes, ["train"])
    assert ranges.counts.sum() == sum(group.returns for group in groups)
    assert returns.counts.sum() == brightness.counts.sum() == len(groups)


def test_the_report_shows_them(shared_clone: Project) -> None:
    details = shared_clone.text("reports/details.md")
    section = details.split("## Pictures of the data")[1].split("\n## ")[0]
    assert sorted(re.findall(r"\(figures/(\w+)\.png\)", section)) == FIGURES
    for name in FIGURES:
        drawn = shared_clone.path(f"data/tensors/pictures/{name}.png").read_bytes()
        assert shared_clone.path(f"reports/figures/{name}.png").read_bytes() == drawn
    frequencies = "always predicting the class frequencies of the training split gives a loss of 0.693"
    assert frequencies in shared_clone.text("reports/report.md")
    assert re.search(
        r"Orientation of the rasters \(`dataset\.lidar\.orientation`\): rotate-90\. The correlation .* is 0\.[3-9]\d",
        section,
    )


def test_margins_do_not_hide_a_turned_raster() -> None:
    """A wide image, and its raster as it should lie, mirrored and upside down."""
    image = np.zeros((3, 16, 16), dtype=np.uint8)
    image[:, 4:12] = 90
    image[:, 5:7, 1:6] = 250
    raster = np.zeros((4, 16, 16), dtype=np.float32)
    raster[:2, 5:7, 1:6], raster[3, 5:7, 1:6] = 5, 1
    for turn in ("as-is", "flip-rows", "flip-columns", "rotate-180"):
        turned = np.ascontiguousarray(geometry.ORIENTATIONS[turn](raster))
        (facts,) = group_stats.compute(image[None], turned[None], 50.0, [(8, 16)])
        assert facts.alignment is not None
        scores = dict(zip(geometry.ORIENTATIONS, facts.alignment, strict=True))
        assert max(scores, key=lambda name: scores[name]) == turn and scores[turn] > 0.6
    full = np.zeros((4, 16, 16), dtype=np.float32)
    full[:2, 4:12], full[3, 4:12] = 5, 1
    (facts,) = group_stats.compute(image[None], full[None], 50.0, [(8, 16)])
    assert facts.alignment is not None and np.abs(facts.alignment[:4:2]).max() < 0.01
