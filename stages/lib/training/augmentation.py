"""Random changes to training samples, the same for both sensors of a group.

B = batch;  N = samples of an epoch;  C = channels;  S = side in pixels
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Channels of an XYZA raster whose sign a flip changes: x points right, z points up (lidar/geometry.py).
_X, _Z = 0, 2


@dataclass(frozen=True)
class Augmentation:
    """Which changes are made to samples; params.yaml gives the meanings."""

    flip: str
    shift: int
    sensor_dropout: float

    @property
    def is_on(self) -> bool:
        return self.flip != "none" or self.shift > 0 or self.sensor_dropout > 0


@dataclass(frozen=True)
class AugmentationDraws:
    """The change of each sample of an epoch."""

    flip_horizontal: Bool[Tensor, "N"]  # left and right exchanged
    flip_vertical: Bool[Tensor, "N"]  # top and bottom exchanged
    shift_down: Int[Tensor, "N"]  # shift in pixels
    shift_right: Int[Tensor, "N"]
    drop_rgb: Bool[Tensor, "N"]
    drop_lidar: Bool[Tensor, "N"]

    def to(self, device: torch.device) -> AugmentationDraws:
        return AugmentationDraws(**{name: values.to(device) for name, values in vars(self).items()})

    def of(self, part: slice) -> AugmentationDraws:
        """The draws of some samples of the epoch."""
        return AugmentationDraws(**{name: values[part] for name, values in vars(self).items()})


def draw(augmentation: Augmentation, num_samples: int, generator: torch.Generator) -> AugmentationDraws:
    """One epoch's draws; uses the same number of random values whatever is switched on."""
    chance = torch.rand(6, num_samples, generator=generator)
    never = torch.zeros(num_samples, dtype=torch.bool)
    span = 2 * augmentation.shift + 1
    dropped = chance[4] < augmentation.sensor_dropout
    return AugmentationDraws(
        flip_horizontal=chance[0] < 0.5 if augmentation.flip in ("horizontal", "both") else never,
        flip_vertical=chance[1] < 0.5 if augmentation.flip in ("vertical", "both") else never,
        shift_down=(chance[2] * span).long() - augmentation.shift,
        shift_right=(chance[3] * span).long() - augmentation.shift,
        drop_rgb=dropped & (chance[5] < 0.5),
        drop_lidar=dropped & (chance[5] >= 0.5),
    )


def apply(
    inputs: tuple[Float[Tensor, "B ..."], Float[Tensor, "B ..."]],
    draws: AugmentationDraws,
    absent: tuple[Float[Tensor, "..."], Float[Tensor, "..."]],
) -> tuple[Float[Tensor, "B ..."], Float[Tensor, "B ..."]]:
    """Both sensors' inputs after the draws of their samples: maps (B, C, S, S), or logits (B, K), which only drop.

    A flip also mirrors the points' coordinates. A shift moves cells but keeps their coordinates, as if the window
    were cut elsewhere. Cells from outside the window are black and without returns.

    Args:
        absent: what the network sees of each sensor where it is missing.
    """
    rgb, lidar = inputs
    if rgb.ndim == 4:
        rgb, lidar = _moved(rgb, draws, absent[0]), _moved(lidar, draws, absent[1])
        signs = torch.ones(lidar.shape[:2], device=lidar.device)
        signs[:, _X] -= 2.0 * draws.flip_horizontal
        signs[:, _Z] -= 2.0 * draws.flip_vertical
        lidar = lidar * signs[:, :, None, None]
    return _dropped(rgb, draws.drop_rgb, absent[0]), _dropped(lidar, draws.drop_lidar, absent[1])


def _dropped(
    values: Float[Tensor, "B ..."], is_dropped: Bool[Tensor, "B"], absent: Float[Tensor, "..."]
) -> Float[Tensor, "B ..."]:
    return torch.where(is_dropped.view(-1, *[1] * (values.ndim - 1)), absent, values)


def _moved(
    maps: Float[Tensor, "B C S S"], draws: AugmentationDraws, outside: Float[Tensor, "C 1 1"]
) -> Float[Tensor, "B C S S"]:
    """Each map flipped, then shifted."""
    side = maps.shape[-1]
    cells = torch.arange(side, device=maps.device)
    rows = cells - draws.shift_down[:, None]  # (B, S): where each row comes from
    columns = cells - draws.shift_right[:, None]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    rows = torch.where(draws.flip_vertical[:, None], side - 1 - rows, rows).clamp(0, side - 1)
    columns = torch.where(draws.flip_horizontal[:, None], side - 1 - columns, columns).clamp(0, side - 1)
    samples = torch.arange(len(maps), device=maps.device)[:, None, None]
    taken = maps[samples, :, rows[:, :, None], columns[:, None, :]]  # (B, S, S, C)
    return torch.where(inside[..., None], taken, outside[:, 0, 0]).permute(0, 3, 1, 2)
