"""Fog and rain, against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stages.lib.datasets import synthetic
from stages.lib.evaluation import weather
from stages.lib.lidar import geometry

SIDE = 64


def wall(range_m: float, share: float = 1.0, *, count: int = 20) -> torch.Tensor:
    """Rasters of a sensor around which everything is at this range; only so many of the cells have returns."""
    angles = synthetic.angles_rad(SIDE)
    raster = geometry.raster_from_range(np.full((SIDE, SIDE), range_m), angles, angles, 1000.0)
    rasters = torch.tensor(raster).expand(count, 4, SIDE, SIDE)
    return rasters * (torch.rand((count, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(1)) < share)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def ranges(raster: torch.Tensor) -> torch.Tensor:
    return raster[:, :3].norm(dim=1)[raster[:, 3] > 0]


@pytest.mark.parametrize(
    ("visibility_m", "range_m"), [(200.0, 30.0), (60.0, 20.0), (60.0, 10.0), (20.0, 40.0)]
)
def test_returns_in_fog(visibility_m: float, range_m: float) -> None:
    """A return is kept where its reflectance is enough: uniform, above the least that clear air needs."""
    kept = float((ranges(weather.fog(wall(range_m), visibility_m, generator())) > range_m - 0.01).sum())
    extinction = -math.log(0.05) / visibility_m
    clear = (range_m / 100) ** 2
    expected = max(0.0, (1 - clear * math.exp(2 * extinction * range_m)) / (1 - clear))
    assert kept / (20 * SIDE**2) == pytest.approx(expected, abs=0.01)


def test_half_of_what_fog_hides_is_seen_as_fog() -> None:
    left = ranges(weather.fog(wall(40.0), 20.0, generator()))
    assert len(left) / (20 * SIDE**2) == pytest.approx(0.5, abs=0.01)
    assert left.min() >= 1 - 1e-4 and left.max() <= 10 + 1e-4
    # Density over r^2 from 1 to 10 metres: half of the false returns are nearer than 1.82 metres.
    assert float(left.median()) == pytest.approx(1 / (0.5 + 0.05), rel=0.03)


def test_fog_adds_nothing_where_there_was_no_return() -> None:
    before = wall(20.0, 0.3)
    after = weather.fog(before, 50.0, generator())
    assert not ((after[:, 3] > 0) & (before[:, 3] == 0)).any()


def test_number_of_drops_in_rain() -> None:
    """By Marshall and Palmer at 25 mm/h: 8000 / 2.086 exp(-2.086 x 3) = 7.4 drops of 3 mm or more per cubic metre."""
    slope = 4.1 * 25**-0.21
    drops_m3 = 8000 / slope * math.exp(-3 * slope)
    assert drops_m3 == pytest.approx(7.4, abs=0.2)
    beam_m3 = math.pi * 0.0015**2 * (1000 - 1) / 3
    near = ranges(weather.rain(wall(20.0, count=80), 25.0, generator())) < 10.01
    assert float(near.float().mean()) == pytest.approx(1 - math.exp(-drops_m3 * beam_m3), rel=0.05)


def test_rain_also_falls_where_there_was_no_return() -> None:
    before = wall(20.0, 0.1)
    after = weather.rain(before, 50.0, generator())
    added = (after[:, 3] > 0) & (before[:, 3] == 0)
    assert float(added[before[:, 3] == 0].float().mean()) > 0.02
    # False returns lie on their own cells' rays, also where these had to be fitted.
    found = after[:, :3] / after[:, :3].norm(dim=1, keepdim=True).clamp(min=1e-6)
    expected = wall(1.0)[:, :3]
    error_rad = (found - expected).norm(dim=1)[added]
    assert float(error_rad.max()) < math.radians(2)


def test_rain_on_a_scan_without_returns() -> None:
    """Its rays are those of the other scans; with none at all nothing is known, and nothing is added."""
    mixed = wall(20.0, 0.1)
    mixed[0] = 0
    after = weather.rain(mixed, 50.0, generator())
    assert after[0, 3].sum() > 20 and float((ranges(after[:1])).min()) > 0.99
    nothing = weather.rain(torch.zeros(3, 4, SIDE, SIDE), 50.0, generator())
    assert not nothing.any()


def test_lengths_are_norms() -> None:
    vectors = torch.randn((3, 3, 5, 4), generator=generator())
    vectors[:, :, 0] = 0
    assert torch.allclose(weather.lengths(vectors), vectors.norm(dim=1, keepdim=True), rtol=1e-6, atol=0)
