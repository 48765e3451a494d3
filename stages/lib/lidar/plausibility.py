"""Judges by some scans whether their units, axes and field of view can be what params.yaml says.

A wrong unit or axis gives no error by itself, only rasters that show nothing.

N = points of a scan
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from stages.lib.lidar import geometry, returns
from stages.lib.lidar.projection import FieldOfView

UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001}

_EDGES_M = np.logspace(-4, 8, 241)  # of the bins in which ranges are counted
_FAR_M = 300.0  # more than the median range of any LiDAR that looks at objects
_NEAR_M = 0.1  # less than it
# Wider views than this are no camera's: the raster cannot lie on the picture.
_WIDEST_DEG = {"azimuth": 170.0, "zenith": 120.0}
_AHEAD_DEG, _ASIDE_DEG = (
    35.0,
    60.0,
)  # angles from straight ahead: of a reading that fits, and of one that does not
_BUNDLED = 0.5  # length of the mean direction, from which on a scan looks into one direction
_STEEP, _LEVEL = 0.5, 0.25  # mean height of directions over the horizon: of axes that do not fit, and that do


@dataclass(frozen=True)
class ScanFacts:
    """Sums over the points of scans, before their axes are changed."""

    range_counts: Int[np.ndarray, "bins"]
    count: int  # of points with a direction
    direction: Float[np.ndarray, "3"]  # sum of unit vectors
    magnitude: Float[np.ndarray, "3"]  # sum of their absolute values
    inside: Int[np.ndarray, "axes"]  # points in the configured field of view, by key of geometry.AXES
    num_moved: int = 0  # clouds whose file says that the sensor was not at the origin

    def __add__(self, other: ScanFacts) -> ScanFacts:
        return ScanFacts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def median_m(self) -> float | None:
        total = np.cumsum(self.range_counts)
        return float(_EDGES_M[np.searchsorted(total, total[-1] / 2)]) if total[-1] else None


def of_ranges(range_m: Float[np.ndarray, "..."]) -> ScanFacts:
    """Facts about ranges alone; values that only mark rays without a return are left out."""
    seen = range_m[np.isfinite(range_m) & (range_m > 0)]
    if returns.of_ranges(seen, 0.0).marks:
        seen = seen[~np.isclose(seen, seen.max(), rtol=1e-4)]
    counts = np.histogram(seen, _EDGES_M)[0]
    return ScanFacts(counts, 0, np.zeros(3), np.zeros(3), np.zeros(len(geometry.AXES), np.int64))


def of_points(points: Float[np.ndarray, "N 3"], view: FieldOfView | None) -> ScanFacts:
    """Facts about points in metres, in the axes of their file.

    Args:
        view: the configured field of view.
    """
    points = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    range_m = np.linalg.norm(points, axis=1)
    points, range_m = points[range_m > 0], range_m[range_m > 0]
    directions = points / range_m[:, None]
    inside = np.zeros(len(geometry.AXES), np.int64)
    if view is not None:
        for place, axes in enumerate(geometry.AXES):
            inside[place] = view.contains(np.ascontiguousarray(geometry.from_axes(points.T, axes).T)).sum()
    return ScanFacts(
        of_ranges(range_m).range_counts,
        len(points),
        directions.sum(axis=0),
        np.abs(directions).sum(axis=0),
        inside,
    )


def wrong_unit(facts: ScanFacts, unit: str, max_range_m: float) -> str | None:
    """Why the ranges cannot be of this unit; None if they can."""
    median_m = facts.median_m
    if median_m is None:
        return None
    stored = median_m / UNITS_M[unit]
    if median_m >= max(_FAR_M, max_range_m):
        return (
            f"half of the returns are farther than {median_m:,.0f} m with dataset.lidar.unit: {unit}; "
            f"values like {stored:,.0f} are often millimetres (mm) or centimetres (cm): set dataset.lidar.unit"
        )
    if median_m < _NEAR_M and unit != "m":
        return (
            f"half of the returns are nearer than {median_m:.2g} m with dataset.lidar.unit: {unit}; values like "
            f"{stored:.2g} are often metres: set dataset.lidar.unit: m"
        )
    return None


def doubtful_unit(facts: ScanFacts) -> str | None:
    """A warning when hardly any LiDAR measures so near."""
    found = np.flatnonzero(facts.range_counts)
    if not found.size or _EDGES_M[found[-1] + 1] > 1.1:
        return None
    return (
        "no return is farther away than about 1 m: are the ranges scaled to 0..1, or of another unit than "
        "dataset.lidar.unit says?"
    )


def doubtful_axes(facts: ScanFacts, axes: str, has_view: bool) -> str | None:
    """A warning when other axes fit the field of view far better than the configured ones."""
    count = facts.count
    if not count:
        return None
    names = list(geometry.AXES)
    if has_view:
        shares = facts.inside / count
        best, own = int(shares.argmax()), float(shares[names.index(axes)])
        if shares[best] >= 0.2 and own < shares[best] / 2:
            return (
                f"dataset.lidar.axes is {axes}, and {own:.0%} of the points lie in dataset.lidar.field_of_view_deg; "
                f"with {names[best]}, {shares[best]:.0%} would"
            )
        return None
    mean = facts.direction / count
    length = float(np.linalg.norm(mean))
    if length >= _BUNDLED:
        ahead = geometry.from_axes(mean, "lidar")
        aside_deg = {
            name: float(np.degrees(np.arccos(np.clip(geometry.from_axes(ahead, name)[1] / length, -1, 1))))
            for name in names
        }
        best_name = min(aside_deg, key=lambda name: aside_deg[name])
        if aside_deg[axes] > _ASIDE_DEG and aside_deg[best_name] < _AHEAD_DEG:
            return (
                f"dataset.lidar.axes is {axes}, and the returns lie {aside_deg[axes]:.0f} degrees away from straight "
                f"ahead; with {best_name} they would lie {aside_deg[best_name]:.0f} degrees away"
            )
        return None
    steep = {name: float(geometry.from_axes(facts.magnitude, name)[2]) / count for name in names}
    level = {name: abs(value) for name, value in steep.items()}
    best_name = min(level, key=lambda name: level[name])
    if level[axes] > _STEEP and level[best_name] < _LEVEL:
        return (
            f"dataset.lidar.axes is {axes}, and most returns lie far above or below the horizon; with {best_name} "
            "they would lie around it"
        )
    return None


def moved_sensor(facts: ScanFacts) -> str | None:
    """A warning when files say that the sensor was elsewhere, which the projection does not consider."""
    if not facts.num_moved:
        return None
    return (
        "the VIEWPOINT of point clouds says that the sensor was not at the origin, or was turned; points are "
        "projected as seen from x = y = z = 0: if they have the coordinates of a map, give them the sensor's"
    )


def too_wide(view: FieldOfView, setting: str) -> str | None:
    """A warning when no picture can show as much as the scans; `setting` is the key that decides on the view."""
    spans = {name: bounds[1] - bounds[0] for name, bounds in view.degrees().items()}
    if all(spans[name] <= most for name, most in _WIDEST_DEG.items()):
        return None
    return (
        f"the scans' field of view is {spans['azimuth']:.0f} x {spans['zenith']:.0f} degrees, more than a picture "
        f"shows, so rasters cannot lie on pictures; {setting}"
    )
