"""Corruptions of sensor data, in five severities; after Hendrycks and Dietterich 2019 (arXiv 1903.12261).

Images are colours in 0..1, rasters XYZA in metres: as measured, before normalisation. Each corruption takes a
strength, whose meaning and unit params.yaml gives, and a generator; it does not change its input. A late scan needs
other groups, so it is not here but in `late_scan.py`.

B = batch;  C = colour channels, of which a fourth is alpha and stays unchanged;  H, W = height and width
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional as F

from stages.lib.evaluation.weather import fog, lengths, rain

Image = Float[Tensor, "B C H W"]
Raster = Float[Tensor, "B 4 H W"]

_ALL_BEAMS = 64  # of the sensor that `lost_beams` starts from


def _colours(corrupted: Float[Tensor, "B c H W"], image: Image) -> Image:
    """The corrupted colours, cut to 0..1, with the image's own alpha."""
    return torch.cat([corrupted.clamp(0, 1), image[:, 3:]], dim=1)


def noise(image: Image, deviation: float, generator: Generator) -> Image:
    """Gaussian noise on every colour value."""
    colours = image[:, :3]
    return _colours(colours + deviation * torch.randn(colours.shape, generator=generator), image)


def darkness(image: Image, light: float, generator: Generator) -> Image:
    """Less light: multiplies every colour by the remaining share."""
    return _colours(image[:, :3] * light, image)


def blur(image: Image, deviation_px: float, generator: Generator) -> Image:
    """Gaussian blur; the border is mirrored."""
    reach = min(math.ceil(3 * deviation_px), *(side - 1 for side in image.shape[2:]))
    distance = torch.arange(-reach, reach + 1, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (distance / deviation_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    colours = F.pad(image[:, :3], (reach,) * 4, mode="reflect")
    num_colours = colours.shape[1]
    colours = F.conv2d(colours, kernel[:num_colours, :, None], groups=num_colours)
    return _colours(F.conv2d(colours, kernel[:num_colours, :, :, None], groups=num_colours), image)


def contrast(image: Image, share: float, generator: Generator) -> Image:
    """Lower contrast: keeps a share of each colour's distance from the image's mean."""
    mean = image[:, :3].mean(dim=(2, 3), keepdim=True)
    return _colours(mean + share * (image[:, :3] - mean), image)


def occlusion(image: Image, share: float, generator: Generator) -> Image:
    """A grey rectangle of the image's proportions covers a share of its area, at a random position."""
    hidden = _rectangles(image, share, generator)
    return _colours(torch.where(hidden, 0.5, image[:, :3]), image)


def dropout(raster: Raster, share: float, generator: Generator) -> Raster:
    """Removes each return with the same probability."""
    kept = torch.rand(raster[:, :1].shape, generator=generator) >= share
    return raster * kept


def range_noise(raster: Raster, deviation_m: float, generator: Generator) -> Raster:
    """Gaussian noise on each return's range, along its ray."""
    range_m = lengths(raster[:, :3])
    noisy = range_m + deviation_m * torch.randn(range_m.shape, generator=generator)
    scale = torch.where(range_m > 0, noisy.clamp(min=0) / range_m.clamp(min=1e-6), 1.0)
    return torch.cat([raster[:, :3] * scale, raster[:, 3:]], dim=1)


def lost_rows(raster: Raster, share: float, generator: Generator) -> Raster:
    """Removes the returns of random rows, drawn for each raster."""
    kept = torch.rand((len(raster), 1, raster.shape[2], 1), generator=generator) >= share
    return raster * kept


def lost_beams(raster: Raster, beams: float, generator: Generator) -> Raster:
    """Keeps evenly spaced rows, as a sensor with so many of 64 beams; each row of the raster counts as a beam."""
    rows = torch.arange(raster.shape[2])
    return raster * (rows * beams % _ALL_BEAMS < beams)[:, None]


def lost_sector(raster: Raster, share: float, generator: Generator) -> Raster:
    """Removes the returns in a rectangle of the raster's proportions that covers a share of its area."""
    return raster * ~_rectangles(raster, share, generator)


def shift(raster: Raster, pixels: float, generator: Generator) -> Raster:
    """Shifts the raster against the image by this distance, in a direction drawn for each raster."""
    angle = 2 * math.pi * torch.rand(len(raster), generator=generator)
    height, width = raster.shape[2:]
    moved = torch.stack([pixels * angle.cos() * 2 / width, pixels * angle.sin() * 2 / height], dim=1)
    return _moved(raster, torch.eye(2).expand(len(raster), 2, 2), moved)


def rotation(raster: Raster, degrees: float, generator: Generator) -> Raster:
    """Rotates the raster about its centre against the image, to a side drawn for each raster."""
    sign = torch.randint(0, 2, (len(raster),), generator=generator) * 2 - 1
    angle = sign * math.radians(degrees)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
    return _moved(raster, turn, torch.zeros(len(raster), 2))


CORRUPTIONS: dict[str, dict[str, Callable[[Tensor, float, Generator], Tensor]]] = {
    "rgb": {"noise": noise, "darkness": darkness, "blur": blur, "contrast": contrast, "occlusion": occlusion},
    "lidar": {
        "dropout": dropout,
        "range_noise": range_noise,
        "lost_rows": lost_rows,
        "lost_sector": lost_sector,
        "shift": shift,
        "rotation": rotation,
        "lost_beams": lost_beams,
        "fog": fog,
        "rain": rain,
    },
}


def _rectangles(
    inputs: Float[Tensor, "B c H W"], share: float, generator: Generator
) -> Bool[Tensor, "B 1 H W"]:
    """One rectangle per sample, inside the image, that covers this share of the area."""
    inside = []
    for axis, side in ((2, inputs.shape[2]), (3, inputs.shape[3])):
        length = round(side * math.sqrt(share))
        first = torch.randint(0, side - length + 1, (len(inputs), 1), generator=generator)
        position = torch.arange(side)
        shape = (-1, 1, side, 1) if axis == 2 else (-1, 1, 1, side)
        inside.append(((position >= first) & (position < first + length)).view(shape))
    return inside[0] & inside[1]


def _moved(raster: Raster, turn: Float[Tensor, "B 2 2"], offset: Float[Tensor, "B 2"]) -> Raster:
    """The transformed raster by nearest neighbour; cells from outside are no returns."""
    grid = F.affine_grid(
        torch.cat([turn, offset[:, :, None]], dim=2), list(raster.shape), align_corners=False
    ).to(raster.dtype)
    return F.grid_sample(raster, grid, mode="nearest", padding_mode="zeros", align_corners=False)
