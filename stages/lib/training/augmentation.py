"""Random changes to training samples, the same for both sensors of a group.

B = batch;  N = samples of an epoch;  C = channels;  S = side in pixels
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Channels of an XYZA raster whose sign a mirror turns: x points right, z points up (lidar/geometry.py).
_X, _Z = 0, 2


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a sample; params.yaml tells the meanings."""

    flip: str
    shift: int
    sensor_dropout: float

    @property
    def is_on(self) -> bool:
        return self.flip != "none" or self.shift > 0 or self.sensor_dropout > 0


@dataclass(frozen=True)
class AugmentationDraws:
    """What happens to each sample of an epoch."""

    mirrored: Bool[Tensor, "N"]  # left and right exchanged
    upturned: Bool[Tensor, "N"]  # top and bottom exchanged
    down: Int[Tensor, "N"]  # shift in pixels
    right: Int[Tensor, "N"]
    without_rgb: Bool[Tensor, "N"]
    without_lidar: Bool[Tensor, "N"]

    def to(self, device: torch.device) -> AugmentationDraws:
        return AugmentationDraws(**{name: values.to(device) for name, values in vars(self).items()})

    def of(self, part: slice) -> AugmentationDraws:
        """Those of some samples of the epoch."""
        return AugmentationDraws(**{name: values[part] for name, values in vars(self).items()})


def draw(augmentation: Augmentation, num_samples: int, generator: torch.Generator) -> AugmentationDraws:
    """One epoch's draws; the generator gives the same number of values whatever is on."""
    chance = torch.rand(6, num_samples, generator=generator)
    never = torch.zeros(num_samples, dtype=torch.bool)
    span = 2 * augmentation.shift + 1
    lost = chance[4] < augmentation.sensor_dropout
    return AugmentationDraws(
        mirrored=chance[0] < 0.5 if augmentation.flip in ("horizontal", "both") else never,
        upturned=chance[1] < 0.5 if augmentation.flip in ("vertical", "both") else never,
        down=(chance[2] * span).long() - augmentation.shift,
        right=(chance[3] * span).long() - augmentation.shift,
        without_rgb=lost & (chance[5] < 0.5),
        without_lidar=lost & (chance[5] >= 0.5),
    )


def apply(
    rgb: Float[Tensor, "B C S S"],
    lidar: Float[Tensor, "B 4 S S"],
    draws: AugmentationDraws,
    black: Float[Tensor, "C"],
) -> tuple[Float[Tensor, "B C S S"], Float[Tensor, "B 4 S S"]]:
    """Both sensors' inputs after the draws of their samples.

    A mirror image's points are mirrored too. A shift moves cells and leaves their coordinates alone: it
    stands for a window cut elsewhere. What comes in from outside is black, and without returns.

    Args:
        black: a black pixel as the network sees it; a lost picture consists of it.
    """
    rgb = torch.where(draws.without_rgb[:, None, None, None], black[:, None, None], _moved(rgb, draws, black))
    lidar = _moved(lidar, draws, torch.zeros(lidar.shape[1], device=lidar.device))
    signs = torch.ones(lidar.shape[:2], device=lidar.device)
    signs[:, _X] -= 2.0 * draws.mirrored
    signs[:, _Z] -= 2.0 * draws.upturned
    signs *= ~draws.without_lidar[:, None]
    return rgb, lidar * signs[:, :, None, None]


def _moved(
    maps: Float[Tensor, "B C S S"], draws: AugmentationDraws, outside: Float[Tensor, "C"]
) -> Float[Tensor, "B C S S"]:
    """Each map flipped, then shifted."""
    side = maps.shape[-1]
    cells = torch.arange(side, device=maps.device)
    rows = cells - draws.down[:, None]  # (B, S): where each row comes from
    columns = cells - draws.right[:, None]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    rows = torch.where(draws.upturned[:, None], side - 1 - rows, rows).clamp(0, side - 1)
    columns = torch.where(draws.mirrored[:, None], side - 1 - columns, columns).clamp(0, side - 1)
    samples = torch.arange(len(maps), device=maps.device)[:, None, None]
    taken = maps[samples, :, rows[:, :, None], columns[:, None, :]]  # (B, S, S, C)
    return torch.where(inside[..., None], taken, outside).permute(0, 3, 1, 2)
