"""Random changes to samples: the same for both sensors, and consistent with the geometry."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stages.lib.training import augmentation
from stages.lib.training.augmentation import Augmentation, AugmentationDraws

BLACK = torch.tensor([-1.0, -2.0, -3.0])
ABSENT = (BLACK[:, None, None], torch.zeros(4, 1, 1))


def draws(**values: list[int] | list[bool]) -> AugmentationDraws:
    """Draws that change nothing except the given values."""
    count = len(next(iter(values.values())))
    off = torch.zeros(count, dtype=torch.bool)
    no_shift = torch.zeros(count, dtype=torch.long)
    defaults = {
        "flip_horizontal": off,
        "flip_vertical": off,
        "shift_down": no_shift,
        "shift_right": no_shift,
        "drop_rgb": off,
        "drop_lidar": off,
    }
    return AugmentationDraws(**(defaults | {name: torch.tensor(value) for name, value in values.items()}))


def sample(count: int = 2) -> tuple[Tensor, Tensor]:
    """Images, and rasters whose x and z give the position of each cell."""
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(count, 3, 4, 4, generator=generator)
    angle = torch.linspace(-1.5, 1.5, 4)
    x, z = angle.expand(4, 4), -angle[:, None].expand(4, 4)
    lidar = torch.stack([x, torch.ones(4, 4), z, torch.ones(4, 4)]).expand(count, 4, 4, 4).clone()
    return rgb, lidar


def test_no_draws_change_nothing() -> None:
    rgb, lidar = sample()
    new_rgb, new_lidar = augmentation.apply((rgb, lidar), draws(shift_down=[0, 0]), ABSENT)
    assert torch.equal(new_rgb, rgb) and torch.equal(new_lidar, lidar)


@pytest.mark.parametrize(("name", "axis"), [("flip_horizontal", -1), ("flip_vertical", -2)])
def test_flips_mirror_both_sensors_and_the_points(name: str, axis: int) -> None:
    rgb, lidar = sample()
    new_rgb, new_lidar = augmentation.apply((rgb, lidar), draws(**{name: [True, False]}), ABSENT)
    assert torch.equal(new_rgb[0], rgb[0].flip(axis)) and torch.equal(new_rgb[1], rgb[1])
    # A symmetric scene stays the same, coordinates included.
    assert torch.equal(new_lidar, lidar)


def test_shifts_move_both_sensors_alike() -> None:
    rgb, lidar = sample()
    new_rgb, new_lidar = augmentation.apply(
        (rgb, lidar), draws(shift_down=[1, 0], shift_right=[-2, 0]), ABSENT
    )
    assert torch.equal(new_rgb[0, :, 1:, :2], rgb[0, :, :3, 2:])
    assert torch.equal(new_lidar[0, :, 1:, :2], lidar[0, :, :3, 2:])
    assert (new_rgb[0, :, 0] == BLACK[:, None]).all() and (new_rgb[0, :, :, 2:] == BLACK[:, None, None]).all()
    assert not new_lidar[0, :, 0].any() and not new_lidar[0, :, :, 2:].any()
    assert torch.equal(new_rgb[1], rgb[1]) and torch.equal(new_lidar[1], lidar[1])


def test_a_dropped_sensor_is_black_or_empty() -> None:
    rgb, lidar = sample()
    dropped = draws(drop_rgb=[True, False], drop_lidar=[False, True])
    new_rgb, new_lidar = augmentation.apply((rgb, lidar), dropped, ABSENT)
    assert (new_rgb[0] == BLACK[:, None, None]).all() and torch.equal(new_rgb[1], rgb[1])
    assert torch.equal(new_lidar[0], lidar[0]) and not new_lidar[1].any()


def test_draws() -> None:
    def drawn(**values: object) -> AugmentationDraws:
        settings = {"flip": "none", "shift": 0, "sensor_dropout": 0.0} | values
        return augmentation.draw(Augmentation(**settings), 4000, torch.Generator().manual_seed(1))

    unchanged = drawn()
    assert not any(values.any() for values in vars(unchanged).values())
    both = drawn(flip="both", shift=2, sensor_dropout=0.3)
    assert (
        abs(both.flip_horizontal.float().mean() - 0.5) < 0.05
        and abs(both.flip_vertical.float().mean() - 0.5) < 0.05
    )
    for shift in (both.shift_down, both.shift_right):
        assert sorted(set(shift.tolist())) == [-2, -1, 0, 1, 2]
        assert math.isclose(float((shift == 2).float().mean()), 0.2, abs_tol=0.03)
    assert not (both.drop_rgb & both.drop_lidar).any()
    for dropped in (both.drop_rgb, both.drop_lidar):
        assert math.isclose(float(dropped.float().mean()), 0.15, abs_tol=0.03)
    # The effect of each setting is independent of the others: the same samples are flipped.
    assert torch.equal(drawn(flip="horizontal").flip_horizontal, both.flip_horizontal)
    assert not drawn(flip="horizontal").flip_vertical.any()
