"""Errors in a dataset end the export, all shown together; warnings are reported; nothing is replaced by zeros."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.datasets import fo, write_dataset

from stages.lib.core.errors import UserError
from stages.lib.datasets import validation
from stages.lib.datasets.validation import DataChecks
from stages.lib.export import decode, group_stats
from stages.lib.export.orientation import OrientationCheck
from stages.lib.lidar import geometry
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors import samples
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split


def break_three(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
    """A damaged image, a scan of the wrong shape, a missing label."""
    if number == 1:
        Path(rgb.filepath).write_bytes(b"no image")
    if number == 7:
        scan["xyza"] = scan["xyza"][:2]
    if number == 10:
        rgb.ground_truth = scan.ground_truth = None


def test_all_errors_are_shown_at_once(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(tmp_path / "data", change=break_three)
    with pytest.raises(UserError) as caught:
        run_export(folder)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    for part in ("001.png: unreadable image", "007: array of shape (2, 24, 24)", "010", "3 errors in all"):
        assert any(part in line for line in lines), lines
    assert not (manifests.FOLDER / "manifest.json").exists()


def test_faulty_groups_can_be_skipped_and_are_counted(
    tmp_path: Path, run_export: Callable[..., Manifest]
) -> None:
    folder = write_dataset(tmp_path / "data", change=break_three)
    manifest = run_export(folder, export__on_error="skip")
    kept = sum(sum(by_class.values()) for by_class in manifest.counts.values())
    assert kept == 27
    told = " ".join(manifest.warnings)
    assert "left out 2: unreadable" in told and "left out 1: missing label" in told


def test_skipping_everything_is_an_error(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    """All validation images are damaged: without them, no group would be left for model selection."""

    def break_validation(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        if "validation" in rgb.tags:
            Path(rgb.filepath).write_bytes(b"no image")

    folder = write_dataset(tmp_path / "data", change=break_validation)
    with pytest.raises(UserError, match="18 training groups of 3 classes and 0 validation groups remain"):
        run_export(folder, export__on_error="skip")


def test_a_split_of_faulty_groups_is_not_called_empty(
    tmp_path: Path, run_export: Callable[..., Manifest]
) -> None:
    def unlabel(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        if "validation" in rgb.tags:
            rgb.ground_truth = scan.ground_truth = None

    with pytest.raises(UserError, match="no label in 'ground_truth'"):
        run_export(write_dataset(tmp_path / "data", change=unlabel))


def test_a_scene_in_two_splits_is_shown_with_all_other_errors(
    tmp_path: Path, run_export: Callable[..., Manifest]
) -> None:
    def straddle(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        rgb["drive"] = scan["drive"] = "d0" if number in (0, 4) else f"own-{number}"
        if number == 7:
            Path(rgb.filepath).write_bytes(b"no image")

    folder = write_dataset(tmp_path / "data", change=straddle)
    with pytest.raises(UserError) as caught:
        run_export(folder, dataset__scene_field="drive")
    assert "scene 'd0' is in two splits: data/000 in train, data/004 in test" in str(caught.value)
    assert "data/007" in str(caught.value) and "2 errors in all" in str(caught.value)
    manifest = run_export(folder, dataset__scene_field="drive", export__on_error="skip")
    assert sum(manifest.counts["test"].values()) == 6 and sum(manifest.counts["train"].values()) == 16
    assert any(
        text.startswith("left out 1: scene in two splits (first: scene 'd0'") for text in manifest.warnings
    )


def test_a_process_that_dies_is_an_error() -> None:
    """As after a crash in a C library: the process has ended, and the export does not wait for it."""
    with (
        decode.started(1) as pool,
        pytest.raises(UserError, match="a decoding process died: out of memory, or at a file"),
    ):
        list(decode.in_order(lambda batch: os._exit(1), ["a.png"], pool))


def copy_image(source: int, target: int) -> Callable[[int, fo.Sample, fo.Sample], None]:
    """Gives one group the image of an earlier one, in a file of its own."""

    def change(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        if number == target:
            shutil.copy(rgb.filepath.replace(f"{target:03d}", f"{source:03d}"), rgb.filepath)

    return change


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (0, 3, r"000 \(train\) and data/003 \(validation\) have the same image"),
        (0, 5, r"'cube'\) and data/000 \('cone'\) have the same image|'cone'\) and data/005 \('cube'\)"),
    ],
    ids=["two splits", "two labels"],
)
def test_copies_that_mislead_are_errors(
    tmp_path: Path, run_export: Callable[..., Manifest], source: int, target: int, message: str
) -> None:
    folder = write_dataset(tmp_path / "data", change=copy_image(source, target))
    with pytest.raises(UserError, match=message):
        run_export(folder)


def test_skipping_copies_takes_them_from_training(
    tmp_path: Path, run_export: Callable[..., Manifest]
) -> None:
    folder = write_dataset(tmp_path / "data", change=copy_image(0, 4))
    manifest = run_export(folder, export__on_error="skip")
    assert sum(manifest.counts["test"].values()) == 6
    assert sum(manifest.counts["train"].values()) == 17
    # It is removed from the tensors too, and all other groups keep their order.
    split, groups = Split(manifests.FOLDER, manifest, "train"), stored_groups.read(manifests.FOLDER, "train")
    assert split.labels.tolist() == [group.label for group in groups] and len(split) == 17
    for index, group in enumerate(groups):
        image, _ = samples.read(manifests.FOLDER, manifest, "train", index)
        pixels = np.asarray(Image.open(folder / "data" / f"{Path(group.group).name}.png"))
        assert np.array_equal(np.moveaxis(image, 0, -1), pixels)


def test_harmless_copies_are_warnings(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(write_dataset(tmp_path / "data", change=copy_image(0, 1)))
    assert "1 group with the image or scan of another group of the same split (data/001)" in manifest.warnings


def make_odd(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
    if number in (0, 1):
        scan["xyza"] = np.zeros((4, 24, 24), dtype=np.float32)
    if number == 2:
        Image.new("RGB", (24, 24), "blue").save(rgb.filepath)
    if number == 5:
        scan["xyza"][1, 3, 3], scan["xyza"][3, 3, 3] = 80.0, 1


def test_oddities_are_warnings(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    told = run_export(write_dataset(tmp_path / "data", change=make_odd)).warnings
    assert "2 scans without any return (data/000, data/001)" in told
    assert "1 image of a single colour (data/002)" in told
    assert any("1 scan with returns farther away than dataset.lidar.max_range_m" in text for text in told)


def test_a_dominant_class_is_a_warning_with_the_scores_of_a_constant_prediction() -> None:
    text = validation.imbalance({"cubes": 1009, "spheres": 67})
    assert text is not None and "94%" in text and "0.938" in text and "0.233" in text
    assert validation.imbalance({"cubes": 10, "spheres": 10}) is None


def test_missing_slice_is_named(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    def orphan(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        if number == 6:
            scan.group = fo.Group().element("lidar_img")

    folder = write_dataset(tmp_path / "data", change=orphan)
    with pytest.raises(UserError) as caught:
        run_export(folder)
    assert "no sample in slice 'lidar_img' (dataset.lidar.slice)" in str(caught.value)
    assert "no sample in slice 'rgb' (dataset.rgb.slice)" in str(caught.value)


def test_media_outside_the_folder_is_refused(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(tmp_path / "data")
    outside = tmp_path / "secret.png"
    Image.new("RGB", (24, 24), "red").save(outside)
    samples = (folder / "samples.json").read_text()
    for path in (str(outside), "../secret.png"):
        (folder / "samples.json").write_text(samples.replace("data/002.png", path))
        with pytest.raises(UserError, match=r"secret.png lies outside .* dataset.allow_external_media"):
            run_export(folder)
        manifest = run_export(folder, dataset__allow_external_media=True)
        assert sum(manifest.counts["train"].values()) == 18


def test_endless_labels_are_refused(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    def shout(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        if number == 3:
            rgb.ground_truth.label = scan.ground_truth.label = "a" * 100_000

    with pytest.raises(UserError, match="text of 100,000 characters") as caught:
        run_export(write_dataset(tmp_path / "data", change=shout))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("true", list(geometry.ORIENTATIONS))
def test_orientation_is_recognised(true: str) -> None:
    """Rasters that cover the images only if turned by `true`; every other setting gives a warning."""
    rng = np.random.default_rng(0)
    for configured in geometry.ORIENTATIONS:
        check = OrientationCheck(configured)
        for _ in range(20):
            foreground = np.zeros((16, 16), dtype=np.float32)
            top, left = rng.integers(0, 6), rng.integers(7, 11)
            foreground[top : top + 3, left : left + 5] = 1
            stored = next(
                raw
                for raw in (turn(foreground) for turn in geometry.ORIENTATIONS.values())
                if np.array_equal(geometry.ORIENTATIONS[true](raw), foreground)
            )
            turned = np.ascontiguousarray(geometry.ORIENTATIONS[configured](stored))
            cells = np.flatnonzero(turned)
            (scores,) = group_stats.alignment_scores(foreground.reshape(1, -1), np.zeros_like(cells), cells)
            check.add(scores)
        warning = check.warning()
        if configured == true:
            assert warning is None
        else:
            assert warning is not None and f"but {true} fits better (1.00)" in warning


def test_real_data_raise_no_false_alarm(pandaset: Path, run_export: Callable[..., Manifest]) -> None:
    """Objects fill these crops, so the returns hardly show the orientation; then no orientation is recommended."""
    manifest = run_export(pandaset, export__image_size=64, dataset__scene_field="scene")
    assert not any("better (" in text for text in manifest.warnings), manifest.warnings
    assert any("the data do not show which orientation is right" in text for text in manifest.warnings)
    assert any("returns farther away than" in text for text in manifest.warnings)
    assert len(Split(manifests.FOLDER, manifest, "train")) == 176


def test_a_flood_of_errors_stays_readable() -> None:
    """One line for each cause, with a count; and few lines, however many causes there are."""
    data_checks = DataChecks("data/mine", "stop")
    for number in range(500):
        data_checks.error("unreadable", f"{number}.png", f"truncated after {number} bytes")
    data_checks.error("unreadable", "a.pcd", "no such file")
    with pytest.raises(UserError) as caught:
        data_checks.raise_errors()
    lines = str(caught.value).splitlines()
    assert lines[0] == "0.png: truncated after 0 bytes (and 499 more like this, such as 1.png, 2.png)"
    assert lines[1] == "a.pcd: no such file" and "501 errors in all" in lines[2] and len(lines) == 3
    # 125 causes more than the two above.
    for word in map("".join, itertools.product("abcde", repeat=3)):
        data_checks.error("unreadable", "b.png", f"failed at {word}")
    with pytest.raises(UserError) as caught:
        data_checks.raise_errors()
    lines = str(caught.value).splitlines()
    assert len(lines) == 22 and "107 more causes of this kind" in lines[20]


def test_nan_in_channel_a_is_not_replaced_by_zero(
    tmp_path: Path, run_export: Callable[..., Manifest]
) -> None:
    def blind(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        if number == 3:
            scan["xyza"][3] = np.nan

    with pytest.raises(UserError, match="data/003: NaN or infinite values in channel a"):
        run_export(write_dataset(tmp_path / "data", change=blind))


def test_margins_do_not_hide_a_constant_image(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    def paint(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        if number in (0, 4):  # in two splits, but not an error: constant images are no copies
            Image.new("RGB", (24, 12), "red").save(rgb.filepath)

    told = run_export(write_dataset(tmp_path / "data", change=paint)).warnings
    assert "2 images of a single colour (data/004, data/000)" in told


def test_no_name_reaches_the_terminal_raw() -> None:
    data_checks = DataChecks("data/mine", "stop")
    data_checks.error("unreadable", "data/mine", "a\n\x1b[31m.png")
    with pytest.raises(UserError) as caught:
        data_checks.raise_errors()
    assert str(caught.value) == "data/mine: a??[31m.png"


def test_a_twin_group_is_one_error() -> None:
    data_checks = DataChecks("data/mine", "skip")
    contents = {"image": "p", "scan": "s"}
    assert data_checks.admit_content(contents, group="a", split="test", label="x")
    assert not data_checks.admit_content(contents, group="b", split="train", label="x")
    assert sum(data_checks.skipped().values()) == 1
    # A group that was left out does not count as the original of others: only groups in the cache do.
    assert not data_checks.admit_content({"image": "p", "scan": "t"}, group="c", split="train", label="x")
    assert data_checks.admit_content({"image": "q", "scan": "t"}, group="d", split="train", label="y")


def test_tied_orientations_are_all_named() -> None:
    check = OrientationCheck("rotate-90")
    check.add(np.array([0.5, 0.0, 0.52, 0.0, 0.51, 0.5, 0.0, 0.0])[[1, 0, 3, 2, 6, 7, 4, 5]])
    warning = check.warning()
    assert warning is not None and " fit better (0.52)" in warning and warning.count(", ") >= 3
