"""Fog and rain on LiDAR rasters, XYZA in metres: lost returns and false near ones.

Both follow the lidar equation with a threshold of detection, as Kilic et al. 2021 (arXiv 2107.07004) do: the power of
a return at range r falls with exp(-2 alpha r) / r^2, where alpha is the extinction in 1/m. No raster holds
reflectances, so they count as uniform between 0 and 1.

B = batch;  H, W = height and width
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

Raster = Float[Tensor, "B 4 H W"]
Cells = Float[Tensor, "B 1 H W"]

# From farther away than this, a sensor sees not even a white target in clear air.
_WHITE_TARGET_M = 100.0
# False returns come from this stretch in front of the sensor.
_NEAREST_M, _FARTHEST_M = 1.0, 10.0
# Share of the returns lost in fog in whose place the fog itself is seen. Chosen, since it depends on the sensor.
_SEEN_FOG = 0.5
# Drops that return enough light have this diameter, or a larger one; a beam spreads by this angle.
_DROP_MM, _BEAM_RAD = 3.0, 3e-3


def fog(raster: Raster, visibility_m: float, generator: Generator) -> Raster:
    """Loses far returns rather than near ones; in the place of half of the lost ones, the fog returns the light.

    The meteorological visibility is the distance at which 5 % of the light is left (Koschmieder 1924).
    """
    lost = _lost(raster, -math.log(0.05) / visibility_m, generator)
    is_false = lost & (torch.rand(lost.shape, generator=generator) < _SEEN_FOG)
    return _with_false_returns(raster * ~lost, is_false, _directions(raster), generator)


def rain(raster: Raster, rate_mm_h: float, generator: Generator) -> Raster:
    """Large drops near the sensor become returns, in cells without a return, too; some far returns are lost.

    Number of drops by diameter: Marshall and Palmer 1948. Extinction: Carbonneau and Wisely 1998, as in ITU-R P.1814.
    """
    extinction_db_km = 1.076 * rate_mm_h**0.67
    lost = _lost(raster, extinction_db_km / 1000 * math.log(10) / 10, generator)
    slope_mm = 4.1 * rate_mm_h**-0.21
    drops_m3 = 8000 / slope_mm * math.exp(-slope_mm * _DROP_MM)
    cone_m3 = math.pi / 3 * (_BEAM_RAD / 2) ** 2 * (_FARTHEST_M**3 - _NEAREST_M**3)
    meets_drop = 1 - math.exp(-drops_m3 * cone_m3)
    is_false = torch.rand(lost.shape, generator=generator) < meets_drop
    return _with_false_returns(raster * ~lost, is_false, _directions(raster), generator)


def lengths(vectors: Float[Tensor, "B 3 H W"]) -> Cells:
    """Euclidean lengths, to the last bit those of `norm`, whose sums over strided channels take ten times as long."""
    x, y, z = vectors.split(1, dim=1)
    return (x * x + y * y + z * z).double().sqrt().to(vectors.dtype)


def _lost(raster: Raster, extinction_1_m: float, generator: Generator) -> Bool[Tensor, "B 1 H W"]:
    """Returns below the threshold: those whose reflectance would be enough in clear air, but not here."""
    range_m = lengths(raster[:, :3])
    least_clear = (range_m / _WHITE_TARGET_M).square().clamp(max=0.99)
    least = least_clear * torch.exp(2 * extinction_1_m * range_m)
    kept = ((1 - least) / (1 - least_clear)).clamp(min=0)
    return (torch.rand(range_m.shape, generator=generator) >= kept) & (raster[:, 3:] > 0)


def _with_false_returns(
    raster: Raster,
    is_false: Bool[Tensor, "B 1 H W"],
    directions: Float[Tensor, "B 3 H W"],
    generator: Generator,
) -> Raster:
    """Puts near returns on the rays of these cells; their power falls with the square of the range."""
    share = torch.rand(is_false.shape, generator=generator)
    range_m = 1 / (1 / _NEAREST_M + share * (1 / _FARTHEST_M - 1 / _NEAREST_M))
    false = torch.cat([directions * range_m, torch.ones_like(range_m)], dim=1)
    is_known = lengths(directions) > 0
    return torch.where(is_false & is_known, false, raster)


def _directions(raster: Raster) -> Float[Tensor, "B 3 H W"]:
    """Unit vectors of all cells' rays: measured at returns, elsewhere fitted as linear in row and column.

    The returns of the whole batch count as one more return in each fit, for rasters with few returns. Zero where the
    batch has none.
    """
    returned = raster[:, 3:]
    measured = raster[:, :3] / lengths(raster[:, :3]).clamp(min=1e-6)
    height, width = raster.shape[2:]
    row, column = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    places = torch.stack([torch.ones_like(row), row, column]).flatten(1)  # 3 x cells
    weights = returned.flatten(1)
    squares = torch.einsum("bn,in,jn->bij", weights, places, places)
    products = torch.einsum("bn,in,bkn->bik", weights, places, measured.flatten(2))
    count = weights.sum().clamp(min=1)
    squares = squares + squares.sum(dim=0) / count + 1e-6 * torch.eye(3)
    products = products + products.sum(dim=0) / count
    fitted = torch.einsum("bik,in->bkn", torch.linalg.solve(squares, products), places)
    fitted = fitted.view(-1, 3, height, width)
    fitted = fitted / lengths(fitted).clamp(min=1e-6)
    return torch.where(returned > 0, measured, fitted)
