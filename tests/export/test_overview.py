"""What people see of the data before they trust it."""

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
    xyza = np.zeros((4, 8, 8), dtype=np.float32)
    xyza[1, 0, : len(ranges_m)], xyza[3, 0, : len(ranges_m)] = ranges_m, 1
    return xyza


def test_facts_about_groups() -> None:
    """Of several together, and of one alone: none may leak into its neighbour."""
    rgb = np.zeros((3, 4, 8, 8), dtype=np.uint8)
    rgb[:, 3], rgb[0, 0, 0, 0], rgb[2, 1] = 255, 51, 102
    xyza = np.stack([raster([10.0, 20.0, 60.0]), raster([]), raster([5.0])])
    facts = group_stats.inspect(rgb, xyza, 50.0)
    assert [fact.returns for fact in facts] == [3, 0, 1]
    assert [fact.mean_range_m for fact in facts] == pytest.approx([30, 0, 5])
    assert [np.flatnonzero(fact.range_counts).tolist() for fact in facts] == [[10, 20, 49], [], [5]]
    assert [fact.relief_squares for fact in facts] == pytest.approx([20**2 + 10**2 + 30**2, 0, 0])
    assert [fact.brightness for fact in facts] == pytest.approx([0.2 / (3 * 64), 0, 0.4 / 3])
    assert [fact.is_constant for fact in facts] == [False, True, True]
    assert facts[0].color_sums[:, 0].tolist() == pytest.approx([0.2, 0.04])
    assert facts[1].fits is None and facts[2].fits is None and facts[0].fits is not None
    for i, fact in enumerate(facts):
        (alone,) = group_stats.inspect(rgb[i : i + 1], xyza[i : i + 1], 50.0)
        assert (alone.picture_digest, alone.scan_digest) == (fact.picture_digest, fact.scan_digest)
    assert len({fact.scan_digest for fact in facts}) == len({fact.picture_digest for fact in facts}) == 3


def test_a_return_at_the_origin_or_elsewhere_changes_the_digest() -> None:
    """Where a return lies counts, even when what it holds is the same."""
    scans = np.zeros((3, 4, 8, 8), dtype=np.float32)
    scans[1, 3, 0, 0] = scans[2, 3, 0, 1] = 1
    facts = group_stats.inspect(np.zeros((3, 3, 8, 8), np.uint8), scans, 50.0)
    assert len({fact.scan_digest for fact in facts}) == 3


def test_fits_are_correlations() -> None:
    """Against numpy's own, for each way in which the raster might be turned."""
    rng = np.random.default_rng(0)
    foreground, returned = rng.random((2, 8, 8)).astype(np.float32), rng.random((2, 8, 8)) < 0.3
    groups, rows, columns = np.nonzero(returned)
    found = group_stats.alignment_scores(foreground.reshape(2, -1), groups, rows * 8 + columns)
    for fits, picture, scan in zip(found, foreground, returned, strict=True):
        assert fits is not None
        for fit, turn in zip(fits, geometry.ORIENTATIONS.values(), strict=True):
            right = np.corrcoef(picture.ravel(), turn(scan).ravel())[0, 1]
            assert fit == pytest.approx(right, abs=1e-6)


def sheet_of(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def test_contact_sheet_shows_each_class(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    """Pictures over depth views, a band of rows for each class, as they lie in the cache."""
    manifest = run_export(write_dataset(tmp_path / "data"))
    figure = overview.contact_sheet(manifests.FOLDER, manifest, "validation")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["ball\nRGB", "LiDAR", "cone\nRGB", "LiDAR", "cube\nRGB", "LiDAR"]
    sheet = sheet_of(figure)
    groups = stored_groups.read(manifests.FOLDER, "validation")
    first = next(i for i, group in enumerate(groups) if group.label == 0)
    rgb, xyza = samples.read(manifests.FOLDER, manifest, "validation", first)
    assert np.array_equal(sheet[:24, :24], np.moveaxis(rgb, 0, -1))
    assert np.array_equal(sheet[25:49, :24].any(axis=-1), xyza[3] > 0)


def test_figures_are_written_with_the_cache(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    run_export(write_dataset(tmp_path / "data"), figures=True)
    paths = sorted((manifests.FOLDER / manifests.PICTURES).glob("*.png"))
    assert [path.stem for path in paths] == FIGURES
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("L"))
        assert min(pixels.shape) > 100 and pixels.std() > 5
        # Nothing touches the left border: labels are not cut off.
        assert (pixels[:, 0] == pixels[0, 0]).all(), path


def test_histograms_count_every_return(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(write_dataset(tmp_path / "data"))
    drawn = Overview(50.0)
    groups = stored_groups.read(manifests.FOLDER, "train")
    for index, group in enumerate(groups):
        rgb, xyza = samples.read(manifests.FOLDER, manifest, "train", index)
        (facts,) = group_stats.inspect(rgb[None], xyza[None], 50.0)
        drawn.add("train", manifest.classes[group.label], facts)
    ranges, returns, brightness = drawn._histogram(manifest.classes, ["train"])
    assert ranges.counts.sum() == sum(group.returns for group in groups)
    assert returns.counts.sum() == brightness.counts.sum() == len(groups)


def test_the_report_shows_them(shared_clone: Project) -> None:
    report = shared_clone.text("reports/report.md")
    section = report.split("## Data")[1].split("\n## ")[0]
    assert sorted(re.findall(r"\(figures/(\w+)\.png\)", section)) == FIGURES
    for name in FIGURES:
        drawn = shared_clone.path(f"data/tensors/pictures/{name}.png").read_bytes()
        assert shared_clone.path(f"reports/figures/{name}.png").read_bytes() == drawn
    assert re.search(
        r"Always guessing the training split's class frequencies gives a loss of 0\.693", section
    )
    assert re.search(
        r"Orientation of the rasters: rotate-90; returns .* correlate with 0\.[3-9]\d so", section
    )
