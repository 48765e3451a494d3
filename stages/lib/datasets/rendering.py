"""Renders the scenes of the built-in dataset by ray casting, and degrades images and range images.

Each sensor sometimes fails. The failures of the two are drawn independently, so a fusion can do better than either
sensor alone.

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
_AMBIENT_LIGHT = 0.1  # share of the colour that is visible where no light falls

_GROUPS_PER_PROCESS = 200  # at least: the start of a process takes as long as the rendering of about 100
_SCENES_AHEAD = 256  # rendered in advance at most, because they are kept in memory


@dataclass(frozen=True)
class RenderedGroup:
    """The data of both sensors for one object."""

    label: str
    image: UInt8[np.ndarray, "H W 4"]
    raster: Float[np.ndarray, "4 R C"]
    fields: dict[str, str | float]  # `camera_state`, `lidar_state` and `distance_m`, the object's distance


def render(plan: list[PlannedScene], spec: Synthetic, image_size: int) -> Iterator[list[RenderedGroup]]:
    """The groups of each scene, in the order of the plan; the number of processes does not change them.

    Args:
        image_size: side of the image in pixels, and of the raster in cells.
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
    """The groups of one scene. `parent`: id of the process that started this one; None if it is the same process."""
    if parent is not None:
        processes.exit_with_parent(parent)
    # One generator for each scene: scenes stay the same when their number changes.
    rng = np.random.default_rng([spec.seed, number])
    scene = synthetic.draw_scene(rng, spec)
    angles = synthetic.angles_rad(image_size)
    renderer = _renderer(image_size)
    groups = []
    for label in planned.labels:
        rotation = draw_rotation(rng, spec)
        image, image_failures = degrade_image(renderer.image(label, scene, rotation), rng, spec.rgb)
        range_image = renderer.range_image(label, scene, rotation)
        range_m, lidar_failures = degrade_ranges(range_image, rng, spec.lidar)
        raster = geometry.raster_from_range(range_m, angles, angles, spec.max_range_m)
        fields: dict[str, str | float] = {
            "camera_state": synthetic.state([*image_failures, *["crescent"] * scene.is_crescent]),
            "lidar_state": synthetic.state(lidar_failures),
            "distance_m": round(float(np.linalg.norm(scene.center_m)), 2),
        }
        groups.append(RenderedGroup(label, image, raster, fields))
    return groups


def draw_rotation(rng: np.random.Generator, spec: Synthetic) -> Rotation:
    """Any angle about the vertical axis, and a tilt about both other axes."""
    tilts_deg = rng.uniform(-spec.tilt_deg, spec.tilt_deg, size=2)
    return Rotation.from_euler("ZYX", [rng.uniform(0, 360), *tilts_deg], degrees=True)


class Renderer:
    """Casts the rays of both sensors at a cube or a sphere."""

    def __init__(self, image_size: int) -> None:
        """`image_size`: side of the image in pixels, and of the raster in cells."""
        self._size = image_size
        self._lidar_rays = geometry.directions(
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

    def range_image(self, label: str, scene: Scene, rotation: Rotation) -> Float[np.ndarray, "R C"]:
        """Ranges in metres, infinite where a ray hits nothing."""
        _, hit, hit_range_m = self._cast(label, scene, rotation, self._lidar_rays.reshape(-1, 3))
        range_m = np.full(self._size**2, np.inf)
        range_m[hit] = hit_range_m
        return range_m.reshape(self._size, self._size)

    def image(self, label: str, scene: Scene, rotation: Rotation) -> Float[np.ndarray, "H W 3"]:
        """Linear colours in 0..1 on a black background, by Lambert's law, without shadows."""
        normals, hit, _ = self._cast(label, scene, rotation, self._camera_rays.reshape(-1, 3))
        brightness = _AMBIENT_LIGHT + (1 - _AMBIENT_LIGHT) * np.clip(normals @ scene.light, 0, None)
        fine = np.zeros((len(self._camera_rays) ** 2, 3))
        fine[hit] = brightness[:, None] * scene.color
        tiles = fine.reshape(self._size, _SUPERSAMPLING, self._size, _SUPERSAMPLING, 3)
        return tiles.mean(axis=(1, 3))

    def _cast(
        self, label: str, scene: Scene, rotation: Rotation, rays: Float[np.ndarray, "N 3"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the rays that hit the body: surface normals, indices and ranges in metres.

        The ray caster was built for a body of unit radius at the origin, so the rays are transformed to its frame.
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
    """One renderer for each process, because its ray casters are slow to build."""
    return Renderer(image_size)


def degrade_image(
    image: Float[np.ndarray, "H W 3"], rng: np.random.Generator, failures: RgbFailures
) -> tuple[UInt8[np.ndarray, "H W 4"], list[str]]:
    """The camera's image: sometimes dark, always a little noisy, alpha is 255; and what failed."""
    gain = 1.0
    is_dark = rng.random() < failures.dark_probability
    if is_dark:
        gain = _log_uniform(rng, failures.dark_gain)
    noise = rng.normal(0.0, rng.uniform(*failures.noise_std), size=image.shape)
    color = np.clip(image * gain + noise, 0.0, 1.0)
    rgba = np.concatenate([color, np.ones((*image.shape[:2], 1))], axis=-1)
    return np.round(rgba * 255).astype(np.uint8), ["dark"] * is_dark


def degrade_ranges(
    range_m: Float[np.ndarray, "R C"], rng: np.random.Generator, failures: LidarFailures
) -> tuple[Float[np.ndarray, "R C"], list[str]]:
    """The LiDAR's ranges in metres: some are lost, all are noisy, sometimes only a part is in view; what failed."""
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
        # A scan without any return would be a faulty sample, not a difficult one.
        kept.flat[rng.choice(np.flatnonzero(seen))] = True
    noisy = range_m + rng.normal(0.0, noise_m, size=range_m.shape)
    failed = {"sparse": sparse, "blurred": blurred, "partial": partial}
    return np.where(kept, noisy, np.inf), [name for name, happened in failed.items() if happened]


def _slab(seen: Bool[np.ndarray, "R C"], rng: np.random.Generator, share: float) -> Bool[np.ndarray, "R C"]:
    """The cells on one side of a random straight edge; `share` of the seen cells lie there."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.indices(seen.shape)
    height = np.cos(angle) * rows + np.sin(angle) * columns
    return height <= np.quantile(height[seen], share)


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))
