"""The export: from a FiftyOne dataset to the tensor cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bson import ObjectId
from PIL import Image
from support.datasets import fo, write_dataset

from stages.lib.core import names
from stages.lib.core.errors import UserError
from stages.lib.datasets import splits
from stages.lib.datasets.reader import DatasetGroup
from stages.lib.datasets.validation import DataChecks
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors import samples
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("plain") / "dataset")


def test_cache_holds_the_data_unchanged(plain: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(plain)
    groups = stored_groups.read(manifests.FOLDER, "train")
    split = Split(manifests.FOLDER, manifest, "train")
    assert len(groups) == len(split) == 18
    media = plain / "data"
    for index, group in enumerate(groups):
        image, raster = samples.read(manifests.FOLDER, manifest, "train", index)
        in_file = np.asarray(Image.open(media / f"{Path(group.group).name}.png"))
        assert np.array_equal(np.moveaxis(image, 0, -1), in_file)
        assert group.returns == int(raster[3].sum()) > 0
        assert (raster[:, raster[3] == 0] == 0).all()
    assert split.labels.tolist() == [group.label for group in groups]
    assert manifest.classes == ["ball", "cone", "cube"]
    assert manifest.num_logits == 3


def test_shards_fill_up_and_read_as_one(plain: Path, run_export: Callable[..., Manifest]) -> None:
    whole = Split(manifests.FOLDER, run_export(plain), "train").batch(range(18))
    manifest = run_export(plain, export__shard_groups=5)
    assert len(manifest.shards["train"]) == 4
    split = Split(manifests.FOLDER, manifest, "train")
    for left, right in zip(whole, split.batch(range(18)), strict=True):
        assert torch.equal(left, right)
    for left, right in zip(whole, split.batch([17, 0, 5]), strict=True):
        assert torch.equal(left[[17, 0, 5]], right)
    for index in (0, 4, 5, 17):
        images, _ = split.images_and_rasters([index])
        image, _ = samples.read(manifests.FOLDER, manifest, "train", index)
        assert torch.equal(images[0] * 255, torch.from_numpy(image).float())
    with pytest.raises(IndexError):
        samples.read(manifests.FOLDER, manifest, "train", 18)


def test_raw_and_normalised_inputs(plain: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(plain, export__normalize=False)
    rgb, lidar = Split(manifests.FOLDER, manifest, "train").batch(range(18))
    image, raster = samples.read(manifests.FOLDER, manifest, "train", 3)
    assert torch.equal(rgb[3], torch.from_numpy(image).float() / 255)
    assert torch.equal(lidar[3], torch.from_numpy(raster))
    rgb, lidar = Split(manifests.FOLDER, run_export(plain, export__normalize=True), "train").batch(range(18))
    assert rgb.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (rgb.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3
    centroids = lidar[:, :3].sum(dim=(2, 3)) / lidar[:, 3:].sum(dim=(2, 3))
    assert centroids.abs().max() < 1e-4
    assert lidar[:, :3].square().mean().item() == pytest.approx(1, abs=1e-3)
    assert set(lidar[:, 3].unique().tolist()) == {0, 1}
    assert (lidar[:, :3] * (1 - lidar[:, 3:]) == 0).all()


def test_statistics_come_from_the_training_split_alone(
    tmp_path: Path, run_export: Callable[..., Manifest]
) -> None:
    def blacken(number: int, rgb: object, lidar: object) -> None:
        if number % 5 > 2:
            Image.new("RGB", (24, 24)).save(rgb.filepath)
            lidar["xyza"] = lidar["xyza"] * np.float32(2)

    def statistics(name: str, **change: object) -> object:
        return run_export(write_dataset(tmp_path / name, **change)).statistics

    assert statistics("one") == statistics("two", change=blacken)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_images_of_any_size_and_colour(
    tmp_path: Path, run_export: Callable[..., Manifest], mode: str, channels: int
) -> None:
    manifest = run_export(write_dataset(tmp_path / "data", mode=mode, size=(20, 30)), export__image_size=16)
    assert manifest.channels["rgb"] == channels
    rgb, lidar = Split(manifests.FOLDER, manifest, "train").batch([0])
    assert rgb.shape == (1, channels, 16, 16) and lidar.shape == (1, 4, 16, 16)


def test_orientation_turns_the_raster(plain: Path, run_export: Callable[..., Manifest]) -> None:
    as_is = samples.read(manifests.FOLDER, run_export(plain), "train", 0)[1]
    turned = run_export(plain, dataset__lidar__orientation="rotate-90")
    turned = samples.read(manifests.FOLDER, turned, "train", 0)[1]
    assert np.array_equal(turned, np.rot90(as_is, k=-1, axes=(1, 2)))


def test_digest_follows_content_not_place(
    plain: Path, tmp_path: Path, run_export: Callable[..., Manifest]
) -> None:
    digest = run_export(plain).digest
    renamed = tmp_path / "elsewhere"
    renamed.symlink_to(plain)
    assert run_export(renamed).digest == digest

    def relabel(rgb: fo.Sample, lidar: fo.Sample) -> None:
        rgb.ground_truth.label = lidar.ground_truth.label = "ball"

    def retag(rgb: fo.Sample, lidar: fo.Sample) -> None:
        rgb.tags = lidar.tags = ["test"]

    def repaint(rgb: fo.Sample, lidar: fo.Sample) -> None:
        pixels = np.array(Image.open(rgb.filepath))
        pixels[0, 0, 0] ^= 1
        Image.fromarray(pixels).save(rgb.filepath)

    def move_a_point(rgb: fo.Sample, lidar: fo.Sample) -> None:
        cells = lidar["xyza"].copy()
        cells[0, cells[3] > 0] += np.float32(1e-3)
        lidar["xyza"] = cells

    write_dataset(tmp_path / "same_")
    digests = {digest}
    for change in (relabel, retag, repaint, move_a_point):

        def first_only(
            number: int, rgb: fo.Sample, lidar: fo.Sample, change: Callable[..., None] = change
        ) -> None:
            if number == 0:
                change(rgb, lidar)

        digests.add(run_export(write_dataset(tmp_path / change.__name__, change=first_only)).digest)
    assert len(digests) == 5
    # A small change in the data also counts if the cache is too coarse to show it.
    assert (
        len({run_export(tmp_path / name, export__image_size=8).digest for name in ("repaint", "same_")}) == 2
    )
    # Although FiftyOne writes new ids and time stamps each time.
    assert run_export(write_dataset(tmp_path / "same")).digest == digest


def test_no_test_tag(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(tmp_path / "data", splits=("train", "train", "validation"))
    manifest = run_export(folder)
    assert not manifest.has_test_split
    assert manifest.shards["test"] == []
    held_out = run_export(folder, dataset__test_fraction=0.25)
    assert sum(held_out.counts["test"].values()) > 0
    assert held_out.counts["validation"] == manifest.counts["validation"]


def test_a_missing_scene_field_is_a_warning(plain: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(plain, dataset__scene_field="drive")
    assert "no field 'drive' (dataset.scene_field)" in manifest.warnings[0]
    assert manifest.scenes["train"] == 18


def test_untagged_groups_are_counted(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(tmp_path / "data", splits=("train", "train", "validation", "test", "spare"))
    manifest = run_export(folder)
    assert "6 groups have no tag of a split" in manifest.warnings[0] and "spare" in manifest.warnings[0]
    with pytest.raises(UserError, match=r"'tset' \(dataset.splits.test\), but 12 groups .* spare, test"):
        run_export(folder, dataset__splits__test="tset")


def test_a_class_without_training_groups_is_a_warning(
    tmp_path: Path, run_export: Callable[..., Manifest]
) -> None:
    def only_in_test(number: int, rgb: object, lidar: object) -> None:
        if "test" in rgb.tags:
            rgb.ground_truth.label = lidar.ground_truth.label = "rare"

    manifest = run_export(write_dataset(tmp_path / "data", change=only_in_test))
    assert any("class 'rare' has no training group" in text for text in manifest.warnings)


def make_groups(count: int, scenes: int, split: str = "train") -> list[DatasetGroup]:
    return [
        DatasetGroup(
            f"g{i}",
            f"s{i % scenes}",
            "ab"[i % scenes % 2],
            split,
            f"{i}.png",
            f"{i}.pcd",
            ObjectId(),
        )
        for i in range(count)
    ]


def assign(groups: list[DatasetGroup], test_fraction: float) -> dict[str, str]:
    assigned = splits.assign(groups, test_fraction, DataChecks("data/mine", "stop"))
    return {group.key: group.split for group in assigned}


def test_held_out_scenes_are_whole_stable_and_stratified() -> None:
    groups = make_groups(200, 50)
    chosen = assign(groups, 0.2)
    assert assign(groups[::-1], 0.2) == chosen
    test = [group for group in groups if chosen[group.key] == "test"]
    assert len({group.scene for group in test}) == 10
    assert sum(group.label == "a" for group in test) == len(test) / 2
    assert {group.scene for group in test}.isdisjoint(
        group.scene for group in groups if chosen[group.key] == "train"
    )


def test_a_test_tag_switches_holding_out_off() -> None:
    groups = [*make_groups(20, 20), replace(make_groups(1, 1)[0], key="t", scene="t", split="test")]
    assert list(assign(groups, 0.5).values()).count("test") == 1


def test_a_scene_in_two_splits_is_an_error_or_left_out() -> None:
    groups = make_groups(8, 2)
    groups[2] = replace(groups[2], split="validation")
    data_checks = DataChecks("data/mine", "stop")
    # The group in the validation split stays; the three groups of this scene in the training split are left out.
    kept = splits.assign(groups, 0.0, data_checks)
    assert {group.key for group in kept} == {"g1", "g2", "g3", "g5", "g7"}
    assert data_checks.skipped() == {"scene in two splits": 3}
    with pytest.raises(UserError, match="scene 's0' is in two splits: g0 in train, g2 in validation"):
        data_checks.raise_errors()


def test_real_data(pandaset: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(pandaset, dataset__scene_field="scene", export__image_size=64)
    assert manifest.counts["train"]["Car"] > 50
    assert len(manifest.classes) == manifest.num_logits == 7
    assert manifest.channels == {"rgb": 3, "lidar": 4}
    assert [sum(manifest.counts[split].values()) for split in names.SPLITS] == [176, 89, 67]
    stored = json.loads((manifests.FOLDER / manifests.FILE).read_text())
    assert stored["digest"] == manifest.digest
