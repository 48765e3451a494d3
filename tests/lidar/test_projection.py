"""From points and arrays to rasters: nothing vanishes uncounted, whatever way the sensor looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.lib.core.errors import UserError
from stages.lib.lidar import formats, geometry, plausibility, projection, returns
from stages.lib.lidar.projection import FieldOfView
from stages.lib.lidar.returns import Losses

RNG = np.random.default_rng(3)


def cloud(azimuth_deg: float, spread_deg: float = 10, count: int = 300) -> np.ndarray:
    """Points around an azimuth, at 8 to 12 m."""
    azimuth = np.radians(azimuth_deg + RNG.uniform(-spread_deg, spread_deg, count))
    zenith = np.radians(RNG.uniform(-5, 5, count))
    range_m = RNG.uniform(8, 12, count)
    directions = [np.sin(-azimuth) * np.cos(zenith), np.cos(azimuth) * np.cos(zenith), np.sin(-zenith)]
    return (np.stack(directions, axis=1) * range_m[:, None]).astype(np.float32)


def fitted(clouds: list[np.ndarray]) -> FieldOfView:
    view = projection.smallest_view(filter(None, (projection.extent(points, 50.0) for points in clouds)))
    assert view is not None
    return view


@pytest.mark.parametrize("azimuth_deg", [0, 90, -135, 178, -179])
def test_a_view_in_any_direction_is_as_narrow_as_its_points(azimuth_deg: float) -> None:
    """Whether the points of one cloud are on both sides of 180 degrees, or those of two clouds."""
    parts = [cloud(azimuth_deg - 8, 2), cloud(azimuth_deg + 8, 2), cloud(azimuth_deg)]
    for clouds in (parts, [np.concatenate(parts)]):
        low, high = np.degrees(fitted(clouds).azimuth_rad)
        assert high - low == pytest.approx(20, abs=0.5)
        assert ((low + high) / 2 - azimuth_deg + 180) % 360 == pytest.approx(180, abs=0.5)
        raster, losses = projection.from_cloud(parts[2], fitted(clouds), (40, 30), 50.0)
        assert losses.outside_view == 0 and losses.kept == raster[3].sum() > 200


def test_a_view_all_around_stays_cut_behind_the_sensor() -> None:
    low, high = np.degrees(fitted([cloud(0, 180, 5000)]).azimuth_rad)
    assert low == pytest.approx(-180, abs=1) and high == pytest.approx(180, abs=1)


def test_a_configured_view_may_cross_180_degrees() -> None:
    front = cloud(0)
    behind = front * np.array([-1, -1, 1], dtype=np.float32)
    views = [FieldOfView((np.radians(low), np.radians(low + 24)), (-0.1, 0.1)) for low in (-12, 168, -192)]
    expected, _ = projection.from_cloud(front, views[0], (16, 16), 50.0)
    for view in views[1:]:
        raster, losses = projection.from_cloud(behind, view, (16, 16), 50.0)
        assert np.array_equal(raster[3], expected[3]) and losses.outside_view == 0


def test_every_point_has_one_fate() -> None:
    points = np.concatenate(
        [
            cloud(0, 5, 200),
            cloud(90, 5, 30),  # outside the view
            cloud(0, 5, 20) * 9,  # too far away
            np.full((10, 3), np.nan, np.float32),
            np.array([[np.inf, 1, 1]], np.float32),
            np.zeros((7, 3), np.float32),  # no returns
        ]
    )
    view = FieldOfView((np.radians(-5.5), np.radians(5.5)), (-0.1, 0.1))
    raster, losses = projection.from_cloud(points, view, (8, 8), 50.0)
    kept = int(raster[3].sum())
    assert losses.counts() == {
        "stored": 261,
        "beyond_range": 20,
        "outside_view": 30,
        "merged": 200 - kept,
        "not_finite": 11,
        "marks": 0,
        "kept": kept,
    }


def test_a_raster_of_one_row_still_has_bounds() -> None:
    view = FieldOfView((np.radians(-5.5), np.radians(5.5)), (-0.1, 0.1))
    raster, losses = projection.from_cloud(np.concatenate([cloud(0, 5), cloud(90, 5)]), view, (1, 64), 50.0)
    assert losses.outside_view == 300 and (np.abs(raster[0]) < 2).all()


def made_raster(shape: tuple[int, int], range_m: np.ndarray) -> np.ndarray:
    azimuth, zenith = np.linspace(-0.2, 0.2, shape[0]), np.linspace(-0.1, 0.1, shape[1])
    return geometry.raster_from_range(range_m, azimuth, zenith, 50.0)


def test_reduction_keeps_the_nearest_return_of_every_cell() -> None:
    """A pole of one column in front of a wall, which every fourth column alone would miss."""
    range_m = np.full((24, 96), 30.0)
    range_m[:, 38] = 5.0
    raster, merged = formats.fitted(made_raster((24, 96), range_m), (24, 24), 24, "as-is")
    found = np.linalg.norm(raster[:3], axis=0)
    assert np.allclose(found[:, 9], 5, atol=1e-4) and np.allclose(np.delete(found, 9, axis=1), 30, atol=1e-4)
    assert merged == 24 * 72


def test_reduction_loses_no_lonely_return() -> None:
    range_m = np.full((50, 70), np.inf)
    places = RNG.permutation(50 * 70)[:40]
    range_m.flat[places] = RNG.uniform(5, 45, 40)
    raster, merged = formats.fitted(made_raster((50, 70), range_m), (16, 16), 16, "rotate-90")
    assert raster[3].sum() + merged == 40 and merged < 8
    assert (raster[:3, raster[3] == 0] == 0).all()


@pytest.mark.parametrize("orientation", list(geometry.ORIENTATIONS))
def test_a_raster_fills_the_rows_and_columns_of_its_image(orientation: str) -> None:
    """Whatever its own shape: larger, smaller, or larger on one side only."""
    for shape in ((64, 256), (5, 7), (9, 300), (16, 16)):
        raster, _ = formats.fitted(made_raster(shape, np.full(shape, 10.0)), (6, 16), 16, orientation)
        rows, columns = raster[3].any(axis=1), raster[3].any(axis=0)
        assert np.flatnonzero(rows).tolist() == list(range(5, 11)) and columns.all()
        assert raster[3].sum() == 6 * 16


def test_a_raster_of_the_right_size_is_not_touched() -> None:
    stored = made_raster((16, 16), RNG.uniform(5, 45, (16, 16)))
    raster, merged = formats.fitted(stored, (16, 16), 16, "as-is")
    assert raster is stored and merged == 0


AHEAD = {"lidar": (1.0, 10.0, 2.0), "forward-left-up": (10.0, -1.0, 2.0), "camera": (1.0, -2.0, 10.0)}


@pytest.mark.parametrize("axes", AHEAD)
def test_one_point_in_all_axes(axes: str) -> None:
    """One metre to the right, ten ahead, two up."""
    point = np.array(AHEAD[axes], dtype=np.float32).reshape(3, 1, 1)
    assert geometry.from_axes(point, axes).ravel().tolist() == [1, 10, 2]
    xyza = np.concatenate([point * 1000, np.ones((1, 1, 1), np.float32)])
    scan = formats.from_xyza(xyza, 50.0, "here", axes=axes, unit_m=0.001)
    assert scan.raster.ravel().tolist() == pytest.approx([1, 10, 2, 1])
    assert formats.from_xyz(point, 50.0, "here", axes=axes).raster.ravel().tolist() == [1, 10, 2, 1]


@pytest.mark.parametrize("true", list(geometry.AXES))
@pytest.mark.parametrize("configured", list(geometry.AXES))
def test_axes_that_do_not_fit_are_told(true: str, configured: str) -> None:
    seen = cloud(3, 20)
    stored = {  # the same points in other axes
        "lidar": seen,
        "forward-left-up": np.stack([seen[:, 1], -seen[:, 0], seen[:, 2]], axis=1),
        "camera": np.stack([seen[:, 0], -seen[:, 2], seen[:, 1]], axis=1),
    }[true]
    narrow = FieldOfView((np.radians(-20), np.radians(26)), (-0.2, 0.2))
    for view in (None, narrow):
        facts = plausibility.of_points(stored, view)
        warning = plausibility.doubtful_axes(facts, configured, view is not None)
        assert (warning is None) == (true == configured)
        if warning:
            assert f"dataset.lidar.axes is {configured}" in warning and f"with {true}" in warning


@pytest.mark.parametrize("azimuth_deg", [180, 0])
def test_a_rear_or_surround_sensor_is_no_alarm(azimuth_deg: float) -> None:
    points = cloud(azimuth_deg, 180 if azimuth_deg == 0 else 20, 3000)
    assert plausibility.doubtful_axes(plausibility.of_points(points, None), "lidar", False) is None


def test_a_surround_sensor_in_camera_axes_is_told() -> None:
    seen = cloud(0, 180, 3000)
    stored = np.stack([seen[:, 0], -seen[:, 2], seen[:, 1]], axis=1)
    warning = plausibility.doubtful_axes(plausibility.of_points(stored, None), "lidar", False)
    assert warning is not None and "with camera" in warning


@pytest.mark.parametrize(
    ("stored", "unit", "is_wrong"),
    [
        (RNG.uniform(4000, 30000, 500), "m", True),  # millimetres
        (RNG.uniform(600, 5000, 500), "m", True),  # centimetres, or millimetres of a small room
        (RNG.uniform(4000, 30000, 500), "mm", False),
        (RNG.uniform(4, 30, 500), "mm", True),
        (RNG.uniform(4, 120, 500), "m", False),
        (np.concatenate([RNG.uniform(4, 30, 100), np.full(900, 1e4)]), "m", False),  # 10,000: no return
    ],
)
def test_units_are_judged(stored: np.ndarray, unit: str, is_wrong: bool) -> None:
    facts = plausibility.of_ranges(stored * plausibility.UNITS_M[unit])
    assert (plausibility.wrong_unit(facts, unit, 50.0) is not None) == is_wrong


def test_normalised_ranges_are_told() -> None:
    assert plausibility.doubtful_unit(plausibility.of_ranges(RNG.uniform(0.1, 1, 100))) is not None
    assert plausibility.doubtful_unit(plausibility.of_ranges(RNG.uniform(0.1, 9, 100))) is None


def test_degrees_become_radians_only_when_told() -> None:
    info = {"azimuth": [-16.0, 15.5], "zenith": [-3.0, 4.0]}
    angles = formats.find_angles(info, Path("data"), None, "cubes", 100, "deg")
    assert angles is not None and angles.azimuth_rad.tolist() == pytest.approx([-0.27925, 0.27053], abs=1e-5)
    with pytest.raises(UserError, match=r"dataset.lidar.angle_unit: deg"):
        formats.find_angles(info, Path("data"), None, "cubes", 100)
    # Few degrees are possible radians for azimuths, but not for zeniths.
    with pytest.raises(UserError, match=r"zenith'\]: angles of up to 4; radians are needed"):
        formats.find_angles(info | {"azimuth": [-2.0, 2.0]}, Path("data"), None, "cubes", 100)


def test_warnings_of_losses_name_causes_and_settings() -> None:
    few = returns.warnings({"train": Losses(1000, beyond_range=49), "test": Losses()})
    assert few == []
    (told,) = returns.warnings({"train": Losses(100, beyond_range=75), "test": Losses(100)})
    assert "train 75%, test 0%" in told and "75% at or beyond dataset.lidar.max_range_m" in told
    (told,) = returns.warnings({"train": Losses(100, beyond_range=75, marks=70)})
    assert "70% have the same range as others" in told
    (told,) = returns.warnings({"train": Losses(100, not_finite=30)})
    assert "not finite (train 30%)" in told and "lost" not in told


def test_marks_of_rays_without_a_return_are_recognised() -> None:
    range_m = np.full((20, 20), 100.0)
    range_m[:10] = RNG.uniform(5, 80, (10, 20))
    losses = returns.of_ranges(range_m, 50.0)
    assert losses.marks == 200 and losses.beyond_range == (range_m >= 50).sum() and losses.stored == 400
