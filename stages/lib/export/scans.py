"""Reads the scan of one group, in any supported format, as a raster that lies on the group's image.

S = side of the cache's square rasters
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from stages.lib.core.errors import UserError
from stages.lib.export.group_stats import digest_of
from stages.lib.lidar import formats, geometry, plausibility, projection, readers, returns
from stages.lib.lidar.formats import Angles, Scan
from stages.lib.lidar.plausibility import ScanFacts
from stages.lib.lidar.projection import FieldOfView
from stages.lib.lidar.returns import Losses


@dataclass(frozen=True)
class Job:
    """What is needed to decode one group."""

    image_path: str
    scan_path: str  # media file of the LiDAR slice
    field: object  # the LiDAR field as the database holds it: bytes, if it is an array
    angles: Angles | None
    label: int
    place: str  # names the group in messages


@dataclass(frozen=True)
class ScanSettings:
    """How every scan is read; params.yaml explains the values."""

    format: str
    axes: str
    unit: str
    orientation: str
    max_pixels: int
    max_range_m: float
    view: FieldOfView | None = None  # of point clouds

    @cached_property
    def unit_m(self) -> float:
        return plausibility.UNITS_M[self.unit]


@dataclass(frozen=True)
class FittedScan(Scan):
    """A scan in the cache's size."""

    digest: str | None = None  # of the raster before it was resized; None if it was not


def read(job: Job, settings: ScanSettings, shape: tuple[int, int], size: int) -> FittedScan:
    """The raster of a group, fitted to its image.

    Args:
        shape: height and width of the image in the cache, without margins.
        size: of the cache's square tensors.

    Raises:
        UserError: when the scan is missing, damaged or not of the configured format.
    """
    if settings.format == "pcd":
        assert settings.view is not None, "point clouds need a field of view"
        cells = geometry.turned_shape(shape, settings.orientation)
        points = read_points(job.scan_path, settings)
        scan = Scan(*projection.from_cloud(points, settings.view, cells, settings.max_range_m))
    else:
        scan = _read_array(job, settings)
    raster, merged = formats.fitted(scan.raster, shape, size, settings.orientation)
    return FittedScan(
        raster,
        scan.losses + Losses(merged=merged) if merged else scan.losses,
        scan.num_far,
        scan.num_at_origin,
        digest_of(scan.raster) if scan.raster.shape != raster.shape else None,
    )


def read_points(path: str, settings: ScanSettings) -> Float[np.ndarray, "N 3"]:
    """The points of a cloud in metres, in the axes of geometry.py."""
    points = readers.read_cloud(path, settings.max_pixels)
    if settings.unit_m != 1:
        points = points * np.float32(settings.unit_m)
    return np.ascontiguousarray(geometry.from_axes(points.T, settings.axes).T)


def _read_array(job: Job, settings: ScanSettings) -> Scan:
    array, place = _stored(job, settings)
    if settings.format in ("range", "npy"):
        range_m = array.astype(np.float64) * settings.unit_m
        raster = formats.from_range(range_m, job.angles, settings.max_range_m, place)
        return Scan(raster, returns.of_ranges(range_m, settings.max_range_m))
    convert = formats.from_xyz if settings.format == "xyz" else formats.from_xyza
    return convert(array, settings.max_range_m, place, axes=settings.axes, unit_m=settings.unit_m)


def _stored(job: Job, settings: ScanSettings) -> tuple[np.ndarray, str]:
    """The array of a scan as stored, and its name in messages."""
    if settings.format == "npy":
        return readers.read_npy(job.scan_path, settings.max_pixels), job.scan_path
    if not isinstance(job.field, bytes):
        found = "nothing" if job.field is None else f"a {_kind(job.field)}"
        raise UserError(
            f"{job.place}: {found} in the field that dataset.lidar.field names; a numpy array is needed"
        )
    return readers.read_array(job.field, settings.max_pixels, job.place, compressed=True), job.place


def _kind(value: object) -> str:
    """What a field of FiftyOne holds, as its users know it."""
    name = value.get("_cls", "dict") if isinstance(value, dict) else type(value).__name__
    return str(name)[:80]


def facts(job: Job, settings: ScanSettings) -> tuple[ScanFacts, float | None, FieldOfView | None]:
    """What a scan shows of its units and axes; its width by its height after the turn, and its view, if it has one.

    Raises:
        UserError: as `read` does.
    """
    if settings.format == "pcd":
        points = readers.read_cloud(job.scan_path, settings.max_pixels) * np.float32(settings.unit_m)
        found = plausibility.of_points(points, settings.view)
        is_moved = readers.is_moved(job.scan_path, settings.max_pixels)
        return replace(found, num_moved=int(is_moved)), None, None
    if settings.format in ("range", "npy"):
        array, place = _stored(job, settings)
        formats.from_range(array, job.angles, settings.max_range_m, place)  # for its errors
        assert job.angles is not None
        azimuth = np.unwrap(job.angles.azimuth_rad)  # rows may pass 180 degrees
        zenith = job.angles.zenith_rad
        view = FieldOfView((azimuth.min(), azimuth.max()), (zenith.min(), zenith.max()))
        range_m = array.astype(np.float64) * settings.unit_m
        return plausibility.of_ranges(range_m), aspect(view, settings.orientation), view
    # Here the axes stay as stored, because they are to be judged.
    scan = _read_array(job, replace(settings, axes="lidar", max_range_m=np.inf))
    points = scan.raster[:3, scan.raster[3] > 0].T
    height, width = geometry.turned_shape(scan.raster.shape[1:], settings.orientation)
    return plausibility.of_points(points, settings.view), width / height, None


def aspect(view: FieldOfView, orientation: str) -> float:
    """Width by height of a view after the turn."""
    azimuth, zenith = (max(high - low, 1e-6) for low, high in (view.azimuth_rad, view.zenith_rad))
    is_turned = geometry.turned_shape((1, 2), orientation) == (2, 1)
    return azimuth / zenith if is_turned else zenith / azimuth
