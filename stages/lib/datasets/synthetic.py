"""Plans and draws the scenes of the built-in dataset: cubes and spheres in front of a camera and a LiDAR.

A scene is one place in front of the sensors: a position, a size, a colour and a light. It shows a cube, or a sphere,
or (as in the course's dataset) first one and then the other; then its two groups are called twins. Camera and LiDAR
have the same origin and field of view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from stages.lib.core.names import SPLITS
from stages.lib.lidar import geometry
from stages.lib.params import Synthetic

# With this edge, cubes and spheres of the same radius have the same mean silhouette. The mean projected area of a
# convex body is a quarter of its surface (Cauchy), so 6 e^2 / 4 = pi r^2 gives the cube's edge e for radius r.
CUBE_EDGE_PER_RADIUS = np.sqrt(np.pi / 1.5)

FOLDER = Path("data/synthetic")  # written by `python -m stages.synthesize`

# Largest angle from the middle of the view, along each axis, at which sensors see a point.
HALF_VIEW_RAD = 0.27


def angles_rad(size: int) -> Float[np.ndarray, "R"]:
    """Azimuth and zenith angles of the course's sensor (-16 to +15.5 degrees) in `size` steps."""
    return np.linspace(-0.27925268, 0.27052603, size)


@dataclass(frozen=True)
class PlannedScene:
    """The split of a scene, and the classes that it shows."""

    split: str
    labels: tuple[str, ...]


def plan(spec: Synthetic) -> list[PlannedScene]:
    """All scenes: as many twins as the rarer class allows; each kind of scene is split by the same shares."""
    cubes_share, spheres_share = (int(part) for part in spec.class_balance.split(":"))
    cubes = round(spec.groups * cubes_share / (cubes_share + spheres_share))
    counts = {"cubes": cubes, "spheres": spec.groups - cubes}
    twins = min(counts.values())
    commoner = max(counts, key=lambda label: counts[label])
    kinds = [(tuple(counts), twins), ((commoner,), max(counts.values()) - twins)]
    shares = np.array([spec.splits.train, spec.splits.validation, spec.splits.test])
    scenes = []
    for labels, number in kinds:
        ends = np.round(np.cumsum(shares / shares.sum()) * number).astype(int)
        splits = np.searchsorted(ends, np.arange(number), side="right")
        scenes += [PlannedScene(SPLITS[split], labels) for split in splits]
    return scenes


@dataclass(frozen=True)
class Scene:
    """The object's place, size and light, which are the same in all groups of a scene."""

    center_m: Float[np.ndarray, "3"]
    radius_m: float
    color: Float[np.ndarray, "3"]
    light: Float[np.ndarray, "3"]
    is_crescent: bool = False  # whether the light comes from behind the object


def state(failures: Sequence[str]) -> str:
    """A sensor's state in one word or two: what failed, `several failures`, or `normal`."""
    if len(failures) > 1:
        return "several failures"
    return failures[0] if failures else "normal"


def reach_rad(radius_m: float, distance_m: float) -> float:
    """The angle between an object's centre and its farthest point, a cube's corner at sqrt(3)/2 edges."""
    return float(np.arctan(CUBE_EDGE_PER_RADIUS * np.sqrt(3) / 2 * radius_m / distance_m))


def draw_scene(rng: np.random.Generator, spec: Synthetic) -> Scene:
    """A random scene, whose object lies near the middle and completely inside the field of view."""
    distance_m = rng.uniform(*spec.distance_m)
    radius_m = rng.uniform(*spec.radius_m)
    # So that the object is in view at any rotation.
    room_rad = min(HALF_VIEW_RAD - reach_rad(radius_m, distance_m), np.deg2rad(spec.off_center_deg))
    azimuth, zenith = rng.uniform(-room_rad, room_rad, size=2)
    center_m = distance_m * geometry.directions(np.array([azimuth]), np.array([zenith]))[0, 0]

    color = rng.uniform(0.2, 1.0, size=3)
    color /= color.max()
    from_behind = rng.random() < spec.crescent_probability
    # Angle between the light and the line of sight: a light from behind the object shows only a crescent of it.
    off_axis_rad = np.deg2rad(rng.uniform(95, 135) if from_behind else rng.uniform(15, 70))
    around_rad = rng.uniform(0, 2 * np.pi)
    toward_sensor = -center_m / distance_m
    side, up = _perpendicular(toward_sensor)
    light = np.cos(off_axis_rad) * toward_sensor + np.sin(off_axis_rad) * (
        np.cos(around_rad) * side + np.sin(around_rad) * up
    )
    return Scene(center_m, radius_m, color, light, is_crescent=from_behind)


def _perpendicular(axis: Float[np.ndarray, "3"]) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors that form a right-handed frame with the unit vector `axis`."""
    side = np.cross(axis, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    return side, np.cross(side, axis)
