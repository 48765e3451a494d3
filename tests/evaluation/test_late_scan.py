"""Scans of other groups of the same scene, on datasets with and without such groups; beams in turned rasters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.datasets import fo, write_dataset
from support.manifest import made_up_manifest

from stages import evaluate
from stages.lib import params
from stages.lib.evaluation import late_scan, sensor_states
from stages.lib.evaluation.sensor_states import EvaluationData, SensorState
from stages.lib.params import Evaluate
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.groups import CachedGroup
from stages.lib.tensors.manifest import Manifest


def settings() -> Evaluate:
    return params.load().evaluate


def of_scene(keys: list[str], scene: str = "drive", label: int = 0) -> list[CachedGroup]:
    return [CachedGroup("test", key, scene, label, 1, 1.0) for key in keys]


def test_scans_come_from_earlier_groups_of_scene_and_class() -> None:
    """Numbers in keys count by their value: 9 comes before 10."""
    groups = [
        *of_scene(["f/10", "f/9", "f/8", "f/11"]),
        *of_scene(["f/7"], label=1),  # of another class, so nobody's neighbour
        *of_scene(["g/1"], scene="other"),
    ]
    tracks = late_scan.tracks(groups)
    assert tracks == [[2, 1, 0, 3]]
    assert late_scan.sources(tracks, 1) == {2: 1, 1: 2, 0: 1, 3: 0}
    assert late_scan.sources(tracks, 2) == {2: 0, 1: 3, 0: 2, 3: 1}
    # Two frames have no neighbour at a distance of three: these get the scan at the farther end.
    assert late_scan.sources(tracks, 3) == {2: 3, 1: 3, 0: 2, 3: 2}
    assert all(index != other for index, other in late_scan.sources(tracks, 99).items())


def data_with_scenes(
    run_export: Callable[..., Manifest], folder: Path, groups_per_scene: int
) -> EvaluationData:
    """Three classes, each in scenes of so many groups that follow each other."""
    per_class = 3 * groups_per_scene
    numbers: dict[str, int] = {}

    def in_scene(number: int, rgb: fo.Sample, lidar: fo.Sample) -> None:
        split = rgb.tags[0]
        label = rgb.ground_truth.label
        place = numbers.setdefault(f"{split} {label}", 0)
        numbers[f"{split} {label}"] += 1
        for sample in (rgb, lidar):
            sample["scene"] = f"{split}-{label}-{place // groups_per_scene}"

    path = write_dataset(
        folder / "data", groups=3 * 3 * per_class, splits=("train", "validation", "test"), change=in_scene
    )
    manifest = run_export(path, dataset__scene_field="scene")
    return evaluate.load_data(manifest, settings())


def test_late_scans_of_a_dataset(run_export: Callable[..., Manifest], tmp_path: Path) -> None:
    """Every group gets another scan of its own scene, its image stays, and strengths count in groups."""
    data = data_with_scenes(run_export, tmp_path, 3)
    states = [state for state in data.corruptions("lidar") if state.name == "late_scan"]
    assert [state.severity for state in states] == [1, 3, 5]
    state = states[0]
    samples = data.samples(state)
    assert samples == list(range(27))
    split = data.splits["test"]
    clean = split.batch(samples)[1]
    late = torch.cat(list(data.inputs(state)))
    assert late.shape == clean.shape
    for index, raster in zip(samples, late, strict=True):
        source = next(other for other in samples if torch.equal(clean[other], raster))
        mine, others = data.groups[index], data.groups[source]
        assert source != index and (mine.scene, mine.label) == (others.scene, others.label)
    # The middle one of three has its earlier neighbour's scan, the last one the middle one's.
    scene = sorted((g.group, i) for i, g in enumerate(data.groups) if g.scene == data.groups[0].scene)
    (_, first), (_, middle), (_, last) = scene
    assert torch.equal(late[middle], clean[first]) and torch.equal(late[last], clean[middle])
    assert torch.equal(late[first], clean[middle])
    assert "late_scan" not in {state.name for state in data.corruptions("rgb")}


def test_late_scans_are_left_out_without_neighbours(
    run_export: Callable[..., Manifest], tmp_path: Path
) -> None:
    data = data_with_scenes(run_export, tmp_path, 1)
    names = {state.name for state in data.corruptions("lidar")}
    assert "late_scan" not in names and {"fog", "rain", "lost_beams", "rotation"} <= names


def test_a_single_class_with_neighbours_is_not_enough(
    run_export: Callable[..., Manifest], tmp_path: Path
) -> None:
    """Its balanced accuracy would be the recall of this class, which a model has that always decides for it."""
    data = data_with_scenes(run_export, tmp_path, 1)
    twins = [index for index, group in enumerate(data.groups) if group.label == 0][:2]
    groups = [replace(g, scene="same") if i in twins else g for i, g in enumerate(data.groups)]
    assert late_scan.tracks(groups) == [twins]
    found = replace(data, groups=groups)
    assert "late_scan" not in {state.name for state in found.corruptions("lidar")}


def test_late_scans_of_real_drives(pandaset: Path, run_export: Callable[..., Manifest]) -> None:
    """Each scene shows one object at several times."""
    manifest = run_export(pandaset, export__image_size=64, dataset__scene_field="scene")
    data = evaluate.load_data(manifest, replace(settings(), severities=[1]))
    state = SensorState("lidar", "late_scan", 1)
    assert state in data.corruptions("lidar")
    samples = data.samples(state)
    clean = data.splits["test"].batch(range(len(data.groups)))[1]
    late = torch.cat(list(data.inputs(state)))
    assert 40 < len(samples) == len(late) <= len(data.groups)
    for index, raster in zip(samples, late, strict=True):
        scene = data.groups[index].scene
        sources = [i for i, g in enumerate(data.groups) if g.scene == scene and i != index]
        assert any(torch.equal(clean[i], raster) for i in sources)


@pytest.mark.parametrize(
    ("configured", "fits", "columns"),
    [
        ("rotate-90", {"rotate-90": 0.6, "as-is": 0.2, "transpose": 0.3}, False),
        ("as-is", {"rotate-90": 0.6, "as-is": 0.2, "transpose": 0.3}, True),
        ("as-is", {"rotate-90": 0.25, "as-is": 0.2}, False),
        ("as-is", {}, False),
    ],
)
def test_beams_are_columns_where_rasters_are_turned(
    configured: str, fits: dict[str, float], columns: bool
) -> None:
    counts = {split: {"a": 1, "b": 1} for split in ("train", "validation", "test")}
    manifest = made_up_manifest(("a", "b"), counts, dict.fromkeys(counts, 1))
    found = replace(manifest, orientation=configured, orientation_fits=fits)
    assert sensor_states.beams_are_columns(found) is columns


@pytest.mark.parametrize("columns", [False, True])
def test_lost_beams_follow_the_orientation(
    run_export: Callable[..., Manifest], tmp_path: Path, columns: bool
) -> None:
    run_export(write_dataset(tmp_path / "data"))
    data = replace(
        evaluate.load_data(manifests.load(manifests.FOLDER), settings()), beams_are_columns=columns
    )
    state = SensorState("lidar", "lost_beams", 3)  # a quarter remains
    returned = torch.cat(list(data.inputs(state)))[:, 3].sum(dim=0) > 0
    lines = returned.any(dim=0 if columns else 1)
    assert lines.nonzero().flatten().tolist() == list(range(0, 24, 4))
