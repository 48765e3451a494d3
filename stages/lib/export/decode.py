"""Decodes the groups of a dataset and writes their shards, in parallel processes without access to the database.

S = side of the cache's square images and rasters;  C = colour channels
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import loky
import numpy as np
from jaxtyping import Float, UInt8

from stages.lib.core.errors import UserError
from stages.lib.export import group_stats, images
from stages.lib.export.group_stats import GroupStats, digest_of
from stages.lib.export.shards import Shard
from stages.lib.lidar import formats, projection, readers
from stages.lib.lidar.formats import Angles
from stages.lib.lidar.projection import FieldOfView

_BATCHES_AHEAD = 2  # of the reader, for each process; more would only take memory

_CLOUDS = 128  # point clouds that a process reads for one task

Batch = TypeVar("Batch")
T = TypeVar("T")


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
class Settings:
    """How every group is decoded; params.yaml explains the values."""

    format: str
    orientation: str
    size: int
    max_pixels: int
    max_range_m: float
    channels: int  # colour channels that all images must have
    view: FieldOfView | None = None  # of point clouds


@dataclass(frozen=True)
class _Found:
    """Facts about one group that its image and raster in the cache do not show."""

    num_far: int  # returns at max_range_m or farther
    # Of image and raster before they were resized; None if they were not.
    image_digest: str | None
    raster_digest: str | None


@dataclass(frozen=True)
class Decoded(_Found):
    """Image and raster of one group."""

    image: UInt8[np.ndarray, "C S S"]
    raster: Float[np.ndarray, "4 S S"]


@dataclass(frozen=True)
class Written:
    """A group that lies in a shard."""

    shard: str
    row: int
    stats: GroupStats
    num_far: int  # returns at max_range_m or farther


@dataclass(frozen=True)
class Unreadable:
    """A group that cannot be decoded."""

    reason: str


@dataclass(frozen=True)
class Pool:
    """The decoding processes."""

    executor: loky.ProcessPoolExecutor
    workers: int


@contextmanager
def started(setting: int | str) -> Iterator[Pool]:
    """Starts the decoding processes, and ends them when the context ends.

    Args:
        setting: `export.workers`; "auto" means one process for each CPU core.
    """
    workers = len(os.sched_getaffinity(0)) if setting == "auto" else int(setting)
    executor = loky.ProcessPoolExecutor(workers)
    for _ in range(workers):
        executor.submit(_import_this_module)
    try:
        yield Pool(executor, workers)
    finally:
        executor.shutdown(kill_workers=True)


def _import_this_module() -> None:
    """Does nothing; a process that receives this function imports its module, in the background."""


def decode(job: Job, settings: Settings) -> Decoded:
    """Image and raster of one group.

    Raises:
        UserError: when its image or scan is missing, damaged or not of the configured format.
    """
    image = images.read_image(job.image_path, settings.size, settings.max_pixels)
    channels = len(image.pixels)
    if channels != settings.channels:
        raise UserError(
            f"{job.image_path}: {channels} colour channels, but the first image has {settings.channels}; "
            "all images need the same number"
        )
    unfitted, num_far = _read_raster(job, settings)
    raster = formats.fitted(unfitted, settings.size, settings.orientation)
    raster_digest = digest_of(unfitted) if unfitted.shape != raster.shape else None
    return Decoded(num_far, image.digest, raster_digest, image.pixels, raster)


def _read_raster(job: Job, settings: Settings) -> tuple[np.ndarray, int]:
    """The raster before it is turned and resized, and the number of returns that are too far away."""
    if settings.format == "pcd":
        assert settings.view is not None, "point clouds need a field of view"
        points = readers.read_cloud(job.scan_path, settings.max_pixels)
        return projection.from_cloud(points, settings.view, settings.size, settings.max_range_m), 0
    if settings.format == "npy":
        array = readers.read_npy(job.scan_path, settings.max_pixels)
        return formats.from_range(array, job.angles, settings.max_range_m, job.scan_path), 0
    if not isinstance(job.field, bytes):
        raise UserError(f"{job.place}: no array in the field that dataset.lidar.field names")
    array = readers.read_array(job.field, settings.max_pixels, job.place, compressed=True)
    if settings.format == "range":
        return formats.from_range(array, job.angles, settings.max_range_m, job.place), 0
    if settings.format == "xyz":
        return formats.from_xyz(array, settings.max_range_m, job.place), 0
    return formats.from_xyza(array, settings.max_range_m, job.place)


def count_channels(paths: list[str], size: int, max_pixels: int, pool: Pool) -> int:
    """Colour channels of the first readable image; 3 if none is readable."""
    return next(in_order(partial(_count_channels, size=size, max_pixels=max_pixels), [paths], pool))


def _count_channels(paths: list[str], size: int, max_pixels: int) -> int:
    for path in paths:
        try:
            return len(images.read_image(path, size, max_pixels).pixels)
        except UserError:
            continue  # reported when it is decoded
    return 3


def write_shards(
    shards: Iterable[tuple[Path, list[Job]]], settings: Settings, pool: Pool
) -> Iterator[list[Written | Unreadable]]:
    """Decodes and writes shards in order; yields the results of each, one for each of its jobs.

    Args:
        shards: the file of each shard, and the jobs of its groups.
    """
    return in_order(partial(_write_shard, settings=settings), shards, pool)


def fit_view(clouds: list[str], max_pixels: int, max_range_m: float, pool: Pool) -> FieldOfView | None:
    """The smallest field of view that contains the points of all these clouds, without the unreadable ones."""
    batches = [clouds[start : start + _CLOUDS] for start in range(0, len(clouds), _CLOUDS)]
    found = in_order(partial(_views, max_pixels=max_pixels, max_range_m=max_range_m), batches, pool)
    views = [view for batch in found for view in batch]
    if not views:
        return None
    azimuth = np.array([view.azimuth_rad for view in views])
    zenith = np.array([view.zenith_rad for view in views])
    return FieldOfView(
        (float(azimuth[:, 0].min()), float(azimuth[:, 1].max())),
        (float(zenith[:, 0].min()), float(zenith[:, 1].max())),
    )


def in_order(work: Callable[[Batch], T], batches: Iterable[Batch], pool: Pool) -> Iterator[T]:
    """Results of `work` on each batch, in order; the pool's processes are only a few batches ahead of the reader.

    Raises:
        UserError: when a process dies, as it may when it decodes a hostile file.
    """
    ahead: deque[Future[T]] = deque()
    try:
        for batch in batches:
            ahead.append(pool.executor.submit(work, batch))
            if len(ahead) > pool.workers * _BATCHES_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a decoding process died: out of memory, or at a file that crashes its decoder; set "
            "export.workers: 1 and a smaller export.shard_groups, then the progress shows where"
        ) from None


def _write_shard(shard: tuple[Path, list[Job]], settings: Settings) -> list[Written | Unreadable]:
    path, jobs = shard
    content = Shard(len(jobs), settings.channels, settings.size)
    results: list[_Found | Unreadable] = []
    for job in jobs:
        try:
            decoded = decode(job, settings)
        except UserError as error:
            results.append(Unreadable(str(error)))
        else:
            content.add(decoded.image, decoded.raster, job.label)
            results.append(_Found(decoded.num_far, decoded.image_digest, decoded.raster_digest))
    if content.filled:
        content.save(path)
    filled = slice(content.filled)
    rows = enumerate(
        group_stats.compute(content.images[filled], content.rasters[filled], settings.max_range_m)
    )
    return [
        result if isinstance(result, Unreadable) else _written(path, result, *next(rows))
        for result in results
    ]


def _written(path: Path, found: _Found, row: int, stats: GroupStats) -> Written:
    stats = replace(
        stats,
        image_digest=found.image_digest or stats.image_digest,
        raster_digest=found.raster_digest or stats.raster_digest,
    )
    return Written(path.name, row, stats, found.num_far)


def _views(clouds: list[str], max_pixels: int, max_range_m: float) -> list[FieldOfView]:
    views = []
    for path in clouds:
        try:
            view = projection.field_of_view(readers.read_cloud(path, max_pixels), max_range_m)
        except UserError:
            continue  # reported when it is decoded
        if view is not None:
            views.append(view)
    return views
