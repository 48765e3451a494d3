"""Corruptions, over all of them and one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from stages.lib import params
from stages.lib.evaluation import corruptions
from stages.lib.evaluation.corruptions import CORRUPTIONS

ALL = [(sensor, name) for sensor, by_name in CORRUPTIONS.items() for name in by_name]


def inputs(sensor: str, *, count: int = 6, height: int = 48, width: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    values = torch.rand((count, 4, height, width), generator=generator)
    if sensor == "lidar":
        returned = (values[:, 3:] > 0.5).float()
        values = torch.cat([(values[:, :3] * 20 - 10) * returned, returned], dim=1)
    return values


def corrupt(sensor: str, name: str, strength: float, values: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return CORRUPTIONS[sensor][name](values, strength, torch.Generator().manual_seed(seed))


def strengths(sensor: str, name: str) -> tuple[float, ...]:
    return getattr(getattr(params.load().evaluate.corruptions, sensor), name)


@pytest.mark.parametrize(("sensor", "name"), ALL)
def test_every_corruption(sensor: str, name: str) -> None:
    """Keeps shape, type and its input; the same generator gives the same result; higher severities change more."""
    values = inputs(sensor)
    before = values.clone()
    changes = []
    for strength in strengths(sensor, name):
        corrupted = corrupt(sensor, name, strength, values)
        assert corrupted.shape == values.shape and corrupted.dtype == values.dtype
        assert torch.isfinite(corrupted).all()
        assert torch.equal(corrupted, corrupt(sensor, name, strength, values))
        changes.append(float((corrupted - values).abs().mean()))
    assert torch.equal(values, before)
    assert changes[0] > 0
    # A random raster differs as much from itself shifted by one pixel as by ten.
    assert name in ("shift", "rotation") or changes[-1] > changes[0]
    if sensor == "rgb":
        assert corrupted.min() >= 0 and corrupted[:, :3].max() <= 1
        assert torch.equal(corrupted[:, 3], values[:, 3]), "alpha is unchanged"
    else:
        returned = corrupted[:, 3]
        assert set(returned.unique().tolist()) <= {0.0, 1.0}
        assert (corrupted[:, :3].abs().sum(dim=1)[returned == 0] == 0).all(), "no return, no coordinates"


@pytest.mark.parametrize("name", CORRUPTIONS["rgb"])
def test_grey_images(name: str) -> None:
    grey = inputs("rgb")[:, :1]
    assert corrupt("rgb", name, strengths("rgb", name)[2], grey).shape == grey.shape


def test_settings_name_all_corruptions() -> None:
    settings = params.load().evaluate.corruptions
    for sensor, by_name in CORRUPTIONS.items():
        assert list(vars(getattr(settings, sensor))) == [
            *by_name,
            *(["late_scan"] if sensor == "lidar" else []),
        ]


def test_noise_has_its_deviation() -> None:
    grey = torch.full((4, 3, 64, 64), 0.5)
    assert float(corrupt("rgb", "noise", 0.1, grey).std()) == pytest.approx(0.1, rel=0.05)


def test_blur_is_gaussian() -> None:
    values = inputs("rgb", count=1)[:, :3]
    blurred = corrupt("rgb", "blur", 1.5, values)
    expected = [gaussian_filter(channel, 1.5, mode="mirror", radius=5) for channel in values[0].numpy()]
    assert torch.allclose(blurred[0], torch.tensor(np.array(expected)).float(), atol=1e-5)


def test_shares_are_as_set() -> None:
    full = torch.ones(200, 4, 20, 20)
    for name in ("dropout", "lost_rows", "lost_sector"):
        lost = 1 - corrupt("lidar", name, 0.25, full)[:, 3].mean()
        assert float(lost) == pytest.approx(0.25, abs=0.03), name
    hidden = (corrupt("rgb", "occlusion", 0.25, torch.ones(9, 3, 20, 20)) == 0.5).float().mean()
    assert float(hidden) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(("beams", "kept"), [(32.0, [0, 2, 4, 6]), (16.0, [0, 4]), (8.0, [0])])
def test_lost_beams_are_evenly_spaced(beams: float, kept: list[int]) -> None:
    left = corrupt("lidar", "lost_beams", beams, torch.ones(2, 4, 64, 5))
    rows = [row for row in range(64) if left[:, :, row].any()]
    assert rows[: len(kept)] == kept and len(rows) == beams
    assert left[:, :, rows].all()


def test_range_noise_moves_along_the_ray() -> None:
    values = inputs("lidar")
    noisy = corrupt("lidar", "range_noise", 0.1, values)
    returned = values[:, 3] > 0
    before, after = (part[:, :3].movedim(1, -1)[returned] for part in (values, noisy))
    assert torch.allclose(torch.linalg.cross(before, after), torch.zeros_like(before), atol=1e-3)
    moved = after.norm(dim=1) - before.norm(dim=1)
    assert float(moved.std()) == pytest.approx(0.1, rel=0.1)


def test_shift_moves_by_its_pixels() -> None:
    values = torch.zeros(50, 4, 33, 33)
    values[:, :, 16, 16] = 1
    shifted = corrupt("lidar", "shift", 5.0, values)
    positions = shifted[:, 3].nonzero()
    distances = ((positions[:, 1:] - 16).float() ** 2).sum(dim=1).sqrt()
    assert len(positions) == 50 and ((distances - 5).abs() < 1).all()


def test_rotation_by_a_right_angle() -> None:
    values = inputs("lidar", height=20, width=20)
    turned = corrupt("lidar", "rotation", 90.0, values)
    for before, after in zip(values, turned, strict=True):
        quarter = [torch.rot90(before, k, dims=(1, 2)) for k in (1, 3)]
        assert any(torch.equal(after, expected) for expected in quarter)


def test_shift_far_enough_leaves_nothing() -> None:
    assert corruptions.shift(inputs("lidar"), 200.0, torch.Generator()).abs().sum() == 0
