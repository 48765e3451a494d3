"""Renders the built-in dataset's scenes by ray casting.

Each sensor fails now and then, and the failures of the two are drawn independently: that is what makes fusing
them worthwhile.

    R, C = rows (azimuth) and columns (zenith) of the LiDAR raster;  H, W = height and width of the image
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import joblib
import numpy as np
import trimesh
from jaxtyping import Bool, Float, UInt8
from scipy.spatial.transform import Rotation
from trimesh.ray.ray_pyembree import RayMeshIntersector

from stages.lib.core import processes
from stages.lib.datasets import synthetic
from stages.lib.datasets.synthetic import CUBE_EDGE_PER_RADIUS, PlannedScene, Scene
from stages.lib.lidar import geometry
from stages.lib.params import LidarFailures, RgbFailures, Synthetic

_SUPERSAMPLING = 2  # rays per pixel and axis of the image, for smooth edges
_AMBIENT_LIGHT = 0.1  # share of the colour seen where no light falls

_GROUPS_PER_PROCESS = 200  # at least: a process takes as long to start as to render some 100
_SCENES_AHEAD = 256  # rendered at most before they are asked for: they are held in memory


@dataclass(frozen=True)
class RenderedGroup:
    """What both sensors deliver of one object."""

    label: str
    image: UInt8[np.ndarray, "H W 4"]
    xyza: Float[np.ndarray, "4 R C"]


def render(plan: list[PlannedScene], spec: Synthetic, image_size: int) -> Iterator[list[RenderedGroup]]:
    """The groups of each scene, in the plan's order; all CPU cores render, with the same results as one.

    Args:
        image_size: pixels a side of the image, and cells a side of the raster.
    """
    count = min(len(os.sched_getaffinity(0)), math.ceil(spec.groups / _GROUPS_PER_PROCESS))
    parallel = joblib.Parallel(n_jobs=count, return_as="generator")
    parent = os.getpid() if count > 1 else None
    for start in range(0, len(plan), _SCENES_AHEAD):
        numbers = range(start, min(start + _SCENES_AHEAD, len(plan)))
        jobs = (joblib.delayed(_render)(number, plan[number], spec, image_size, parent) for number in numbers)
        with processes.sigint_blocked():
            rendered = parallel(jobs)
        yield from rendered


def _render(
    number: int, planned: PlannedScene, spec: Synthetic, image_size: int, parent: int | None
) -> list[RenderedGroup]:
    """One scene's groups. `parent` is the process to end with; None where this is no other process."""
    if parent is not None:
        processes.exit_with_parent(parent)
    # A generator per scene: changing the number of scenes leaves the others as they are.
    rng = np.random.default_rng([spec.seed, number])
    scene = synthetic.draw_scene(rng, spec)
    angles = synthetic.angles_rad(image_size)
    renderer = _renderer(image_size)
    groups = []
    for label in planned.labels:
        rotation = draw_rotation(rng, spec)
        image = degrade_image(renderer.photograph(label, scene, rotation), rng, spec.rgb)
        range_m = degrade_scan(renderer.scan(label, scene, rotation), rng, spec.lidar)
        xyza = geometry.xyza_from_range(range_m, angles, angles, spec.max_range_m)
        groups.append(RenderedGroup(label, image, xyza))
    return groups


def draw_rotation(rng: np.random.Generator, spec: Synthetic) -> Rotation:
    """Any heading about the vertical, and a tilt about both other axes."""
    tilts_deg = rng.uniform(-spec.tilt_deg, spec.tilt_deg, size=2)
    return Rotation.from_euler("ZYX", [rng.uniform(0, 360), *tilts_deg], degrees=True)


class Renderer:
    """Casts the rays of both sensors at a cube or a sphere."""

    def __init__(self, image_size: int) -> None:
        """`image_size`: pixels a side of the image, and cells a side of the raster."""
        self._size = image_size
        self._scan_rays = geometry.directions(
            synthetic.angles_rad(image_size), synthetic.angles_rad(image_size)
        )
        fine = synthetic.angles_rad(image_size * _SUPERSAMPLING)
        self._camera_rays = np.moveaxis(
            geometry.ORIENTATIONS["rotate-90"](np.moveaxis(geometry.directions(fine, fine), -1, 0)), 0, -1
        )
        edge = CUBE_EDGE_PER_RADIUS
        self._bodies = {
            "cubes": trimesh.creation.box((edge, edge, edge)),
            "spheres": trimesh.creation.icosphere(subdivisions=5, radius=1.0),
        }
        self._casters = {label: RayMeshIntersector(body) for label, body in self._bodies.items()}

    def scan(self, label: str, scene: Scene, rotation: Rotation) -> Float[np.ndarray, "R C"]:
        """Range image in metres, infinite where a ray meets nothing."""
        _, hit, range_m = self._cast(label, scene, rotation, self._scan_rays.reshape(-1, 3))
        image = np.full(self._size**2, np.inf)
        image[hit] = range_m
        return image.reshape(self._size, self._size)

    def photograph(self, label: str, scene: Scene, rotation: Rotation) -> Float[np.ndarray, "H W 3"]:
        """Linear colour in 0..1 on a black background, Lambert's law, no shadows."""
        normals, hit, _ = self._cast(label, scene, rotation, self._camera_rays.reshape(-1, 3))
        brightness = _AMBIENT_LIGHT + (1 - _AMBIENT_LIGHT) * np.clip(normals @ scene.light, 0, None)
        fine = np.zeros((len(self._camera_rays) ** 2, 3))
        fine[hit] = brightness[:, None] * scene.color
        tiles = fine.reshape(self._size, _SUPERSAMPLING, self._size, _SUPERSAMPLING, 3)
        return tiles.mean(axis=(1, 3))

    def _cast(
        self, label: str, scene: Scene, rotation: Rotation, rays: Float[np.ndarray, "N 3"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Surface normals, indices and ranges in metres of the rays that hit the body.

        The body stays where its ray caster was built, at the origin with unit radius; the rays are
        carried into its frame instead.
        """
        into_body = rotation.inv()
        origin = into_body.apply(-scene.center_m) / scene.radius_m
        local_rays = into_body.apply(rays)
        locations, hit, faces = self._casters[label].intersects_location(
            np.broadcast_to(origin, local_rays.shape), local_rays, multiple_hits=False
        )
        range_m = np.linalg.norm(locations - origin, axis=1) * scene.radius_m
        return rotation.apply(self._bodies[label].face_normals[faces]), hit, range_m


@functools.cache
def _renderer(image_size: int) -> Renderer:
    """One a process: its ray casters take a while to build."""
    return Renderer(image_size)


def degrade_image(
    image: Float[np.ndarray, "H W 3"], rng: np.random.Generator, failures: RgbFailures
) -> UInt8[np.ndarray, "H W 4"]:
    """The picture that the camera delivers: sometimes dark, always a little noisy; alpha is full."""
    gain = 1.0
    if rng.random() < failures.dark_probability:
        gain = _log_uniform(rng, failures.dark_gain)
    noise = rng.normal(0.0, rng.uniform(*failures.noise_std), size=image.shape)
    color = np.clip(image * gain + noise, 0.0, 1.0)
    rgba = np.concatenate([color, np.ones((*image.shape[:2], 1))], axis=-1)
    return np.round(rgba * 255).astype(np.uint8)


def degrade_scan(
    range_m: Float[np.ndarray, "R C"], rng: np.random.Generator, failures: LidarFailures
) -> Float[np.ndarray, "R C"]:
    """The scan that the LiDAR delivers: lost returns, noisy ranges, now and then only a part seen."""
    sparse, blurred, partial = (
        rng.random() < p
        for p in (failures.sparse_probability, failures.blur_probability, failures.partial_probability)
    )
    dropout = rng.uniform(*(failures.sparse_dropout if sparse else failures.dropout))
    noise_m = rng.uniform(*failures.blur_noise_m) if blurred else failures.range_noise_m
    seen = np.isfinite(range_m)
    kept = seen & (rng.random(range_m.shape) >= dropout)
    if partial:
        kept &= _slab(seen, rng, rng.uniform(*failures.partial_share))
    if not kept.any():
        # A scan without any return would be a broken file rather than a hard one.
        kept.flat[rng.choice(np.flatnonzero(seen))] = True
    noisy = range_m + rng.normal(0.0, noise_m, size=range_m.shape)
    return np.where(kept, noisy, np.inf)


def _slab(seen: Bool[np.ndarray, "R C"], rng: np.random.Generator, share: float) -> Bool[np.ndarray, "R C"]:
    """The cells on one side of a random straight edge that leaves `share` of the seen ones."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.indices(seen.shape)
    height = np.cos(angle) * rows + np.sin(angle) * columns
    return height <= np.quantile(height[seen], share)


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))
