"""Random changes to samples: the same for both sensors, and true to the geometry."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stages.lib.training import augmentation
from stages.lib.training.augmentation import Augmentation, AugmentationDraws

BLACK = torch.tensor([-1.0, -2.0, -3.0])


def draws(**values: list[int] | list[bool]) -> AugmentationDraws:
    """No change but the given one."""
    count = len(next(iter(values.values())))
    off = torch.zeros(count, dtype=torch.bool)
    still = torch.zeros(count, dtype=torch.long)
    defaults = {
        "mirrored": off,
        "upturned": off,
        "down": still,
        "right": still,
        "without_rgb": off,
        "without_lidar": off,
    }
    return AugmentationDraws(**(defaults | {name: torch.tensor(value) for name, value in values.items()}))


def sample(count: int = 2) -> tuple[Tensor, Tensor]:
    """Pictures, and rasters whose x and z tell where each cell lies."""
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(count, 3, 4, 4, generator=generator)
    angle = torch.linspace(-1.5, 1.5, 4)
    x, z = angle.expand(4, 4), -angle[:, None].expand(4, 4)
    lidar = torch.stack([x, torch.ones(4, 4), z, torch.ones(4, 4)]).expand(count, 4, 4, 4).clone()
    return rgb, lidar


def test_nothing_changes_nothing() -> None:
    rgb, lidar = sample()
    new_rgb, new_lidar = augmentation.apply(rgb, lidar, draws(down=[0, 0]), BLACK)
    assert torch.equal(new_rgb, rgb) and torch.equal(new_lidar, lidar)


@pytest.mark.parametrize(("name", "axis"), [("mirrored", -1), ("upturned", -2)])
def test_flips_turn_both_sensors_and_the_points(name: str, axis: int) -> None:
    rgb, lidar = sample()
    new_rgb, new_lidar = augmentation.apply(rgb, lidar, draws(**{name: [True, False]}), BLACK)
    assert torch.equal(new_rgb[0], rgb[0].flip(axis)) and torch.equal(new_rgb[1], rgb[1])
    # A scene that is its own mirror image stays as it is, coordinates and all.
    assert torch.equal(new_lidar, lidar)


def test_shifts_move_both_sensors_alike() -> None:
    rgb, lidar = sample()
    new_rgb, new_lidar = augmentation.apply(rgb, lidar, draws(down=[1, 0], right=[-2, 0]), BLACK)
    assert torch.equal(new_rgb[0, :, 1:, :2], rgb[0, :, :3, 2:])
    assert torch.equal(new_lidar[0, :, 1:, :2], lidar[0, :, :3, 2:])
    assert (new_rgb[0, :, 0] == BLACK[:, None]).all() and (new_rgb[0, :, :, 2:] == BLACK[:, None, None]).all()
    assert not new_lidar[0, :, 0].any() and not new_lidar[0, :, :, 2:].any()
    assert torch.equal(new_rgb[1], rgb[1]) and torch.equal(new_lidar[1], lidar[1])


def test_a_lost_sensor_is_black_or_empty() -> None:
    rgb, lidar = sample()
    lost = draws(without_rgb=[True, False], without_lidar=[False, True])
    new_rgb, new_lidar = augmentation.apply(rgb, lidar, lost, BLACK)
    assert (new_rgb[0] == BLACK[:, None, None]).all() and torch.equal(new_rgb[1], rgb[1])
    assert torch.equal(new_lidar[0], lidar[0]) and not new_lidar[1].any()


def test_draws() -> None:
    def drawn(**values: object) -> AugmentationDraws:
        settings = {"flip": "none", "shift": 0, "sensor_dropout": 0.0} | values
        return augmentation.draw(Augmentation(**settings), 4000, torch.Generator().manual_seed(1))

    still = drawn()
    assert not any(values.any() for values in vars(still).values())
    both = drawn(flip="both", shift=2, sensor_dropout=0.3)
    assert abs(both.mirrored.float().mean() - 0.5) < 0.05 and abs(both.upturned.float().mean() - 0.5) < 0.05
    for shift in (both.down, both.right):
        assert sorted(set(shift.tolist())) == [-2, -1, 0, 1, 2]
        assert math.isclose(float((shift == 2).float().mean()), 0.2, abs_tol=0.03)
    assert not (both.without_rgb & both.without_lidar).any()
    for lost in (both.without_rgb, both.without_lidar):
        assert math.isclose(float(lost.float().mean()), 0.15, abs_tol=0.03)
    # What one setting does is independent of the others: the same samples are mirrored.
    assert torch.equal(drawn(flip="horizontal").mirrored, both.mirrored)
    assert not drawn(flip="horizontal").upturned.any()
