"""What can go wrong with a sensor, in five severities; after Hendrycks and Dietterich 2019 (arXiv 1903.12261).

Pictures are colours in 0..1, scans XYZA in metres: as measured, before any normalisation. Each corruption
takes a strength, whose meaning and unit stand in params.yaml, and a generator, and changes neither input.

B = batch;  C = colour channels, of which a fourth is alpha and stays as it is;  H, W = height and width
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional as F

Picture = Float[Tensor, "B C H W"]
Scan = Float[Tensor, "B 4 H W"]


def _colours(corrupted: Float[Tensor, "B c H W"], rgb: Picture) -> Picture:
    """The corrupted colours, cut to 0..1, beside the picture's own alpha."""
    return torch.cat([corrupted.clamp(0, 1), rgb[:, 3:]], dim=1)


def noise(rgb: Picture, deviation: float, generator: Generator) -> Picture:
    """Gaussian noise on every colour value."""
    colours = rgb[:, :3]
    return _colours(colours + deviation * torch.randn(colours.shape, generator=generator), rgb)


def darkness(rgb: Picture, light: float, generator: Generator) -> Picture:
    """Less light: every colour is multiplied by the share that is left."""
    return _colours(rgb[:, :3] * light, rgb)


def blur(rgb: Picture, deviation_px: float, generator: Generator) -> Picture:
    """Gaussian blur; the border is mirrored."""
    reach = min(math.ceil(3 * deviation_px), *(side - 1 for side in rgb.shape[2:]))
    distance = torch.arange(-reach, reach + 1, dtype=rgb.dtype)
    kernel = torch.exp(-0.5 * (distance / deviation_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    colours = F.pad(rgb[:, :3], (reach,) * 4, mode="reflect")
    num_colours = colours.shape[1]
    colours = F.conv2d(colours, kernel[:num_colours, :, None], groups=num_colours)
    return _colours(F.conv2d(colours, kernel[:num_colours, :, :, None], groups=num_colours), rgb)


def contrast(rgb: Picture, share: float, generator: Generator) -> Picture:
    """Colours drawn towards the picture's mean, until only a share of the distance is left."""
    mean = rgb[:, :3].mean(dim=(2, 3), keepdim=True)
    return _colours(mean + share * (rgb[:, :3] - mean), rgb)


def occlusion(rgb: Picture, share: float, generator: Generator) -> Picture:
    """A grey rectangle of the picture's proportions hides a share of its area, anywhere."""
    hidden = _rectangles(rgb, share, generator)
    return _colours(torch.where(hidden, 0.5, rgb[:, :3]), rgb)


def dropout(xyza: Scan, share: float, generator: Generator) -> Scan:
    """Each return is lost with the same probability."""
    kept = torch.rand(xyza[:, :1].shape, generator=generator) >= share
    return xyza * kept


def range_noise(xyza: Scan, deviation_m: float, generator: Generator) -> Scan:
    """Gaussian noise on each return's range, along its ray."""
    range_m = xyza[:, :3].norm(dim=1, keepdim=True)
    noisy = range_m + deviation_m * torch.randn(range_m.shape, generator=generator)
    scale = torch.where(range_m > 0, noisy.clamp(min=0) / range_m.clamp(min=1e-6), 1.0)
    return torch.cat([xyza[:, :3] * scale, xyza[:, 3:]], dim=1)


def lost_rows(xyza: Scan, share: float, generator: Generator) -> Scan:
    """Rows of the raster, drawn for each scan, give no returns."""
    kept = torch.rand((len(xyza), 1, xyza.shape[2], 1), generator=generator) >= share
    return xyza * kept


def lost_sector(xyza: Scan, share: float, generator: Generator) -> Scan:
    """A rectangle of the raster's proportions, a share of its area, gives no returns."""
    return xyza * ~_rectangles(xyza, share, generator)


def shift(xyza: Scan, pixels: float, generator: Generator) -> Scan:
    """The raster lies this far off the picture, in a direction drawn for each scan."""
    angle = 2 * math.pi * torch.rand(len(xyza), generator=generator)
    height, width = xyza.shape[2:]
    moved = torch.stack([pixels * angle.cos() * 2 / width, pixels * angle.sin() * 2 / height], dim=1)
    return _moved(xyza, torch.eye(2).expand(len(xyza), 2, 2), moved)


def rotation(xyza: Scan, degrees: float, generator: Generator) -> Scan:
    """The raster is turned about its centre against the picture, one way or the other."""
    sign = torch.randint(0, 2, (len(xyza),), generator=generator) * 2 - 1
    angle = sign * math.radians(degrees)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
    return _moved(xyza, turn, torch.zeros(len(xyza), 2))


CORRUPTIONS: dict[str, dict[str, Callable[[Tensor, float, Generator], Tensor]]] = {
    "rgb": {"noise": noise, "darkness": darkness, "blur": blur, "contrast": contrast, "occlusion": occlusion},
    "lidar": {
        "dropout": dropout,
        "range_noise": range_noise,
        "lost_rows": lost_rows,
        "lost_sector": lost_sector,
        "shift": shift,
        "rotation": rotation,
    },
}


def _rectangles(
    inputs: Float[Tensor, "B c H W"], share: float, generator: Generator
) -> Bool[Tensor, "B 1 H W"]:
    """Rectangles, one a sample, wholly inside, that cover this share of the area."""
    inside = []
    for axis, side in ((2, inputs.shape[2]), (3, inputs.shape[3])):
        length = round(side * math.sqrt(share))
        first = torch.randint(0, side - length + 1, (len(inputs), 1), generator=generator)
        place = torch.arange(side)
        shape = (-1, 1, side, 1) if axis == 2 else (-1, 1, 1, side)
        inside.append(((place >= first) & (place < first + length)).view(shape))
    return inside[0] & inside[1]


def _moved(xyza: Scan, turn: Float[Tensor, "B 2 2"], offset: Float[Tensor, "B 2"]) -> Scan:
    """Each cell takes the nearest cell of where it comes from; what comes from outside is no return."""
    grid = F.affine_grid(
        torch.cat([turn, offset[:, :, None]], dim=2), list(xyza.shape), align_corners=False
    ).to(xyza.dtype)
    return F.grid_sample(xyza, grid, mode="nearest", padding_mode="zeros", align_corners=False)
