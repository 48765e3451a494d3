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
from stages.lib.export import group_stats, images, scans
from stages.lib.export.group_stats import GroupStats
from stages.lib.export.scans import Job, ScanSettings
from stages.lib.export.shards import Shard
from stages.lib.lidar import projection
from stages.lib.lidar.projection import Extent, FieldOfView
from stages.lib.lidar.returns import Losses

_BATCHES_AHEAD = 2  # of the reader, for each process; more would only take memory

_CLOUDS = 128  # point clouds that a process reads for one task

Batch = TypeVar("Batch")
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How every group is decoded; params.yaml explains the values."""

    size: int
    channels: int  # colour channels that all images must have
    white: int  # value of white in images of 16 bits
    scan: ScanSettings


@dataclass(frozen=True)
class Found:
    """Facts about one group that its image and raster in the cache do not show."""

    losses: Losses
    num_far: int  # returns at max_range_m or farther
    num_at_origin: int  # returns without a direction
    # Of image and raster before they were resized; None if they were not.
    image_digest: str | None
    raster_digest: str | None


@dataclass(frozen=True)
class Decoded:
    """Image and raster of one group."""

    image: UInt8[np.ndarray, "C S S"]
    raster: Float[np.ndarray, "4 S S"]
    facts: Found
    image_shape: tuple[int, int]  # height and width without margins


@dataclass(frozen=True)
class Written:
    """A group that lies in a shard."""

    shard: str
    row: int
    stats: GroupStats
    facts: Found


@dataclass(frozen=True)
class Unreadable:
    """A group that cannot be decoded."""

    place: str  # its file, or its name
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
    image = images.read_image(job.image_path, settings.size, settings.scan.max_pixels, settings.white)
    if len(image.pixels) != settings.channels:
        raise UserError(
            f"{job.image_path}: {len(image.pixels)} colour channels, but most images have {settings.channels}; "
            "convert it, or leave it out with export.on_error: skip"
        )
    scan = scans.read(job, settings.scan, image.shape, settings.size)
    found = Found(scan.losses, scan.num_far, scan.num_at_origin, image.digest, scan.digest)
    return Decoded(image.pixels, scan.raster, found, image.shape)


def write_shards(
    shards: Iterable[tuple[Path, list[Job]]], settings: Settings, pool: Pool
) -> Iterator[list[Written | Unreadable]]:
    """Decodes and writes shards in order; yields the results of each, one for each of its jobs.

    Args:
        shards: the file of each shard, and the jobs of its groups.
    """
    return in_order(partial(_write_shard, settings=settings), shards, pool)


def fit_view(clouds: list[str], settings: ScanSettings, pool: Pool) -> FieldOfView | str:
    """The smallest field of view that contains the points of all these clouds, without the unreadable ones.

    If there is none, the first reason why.
    """
    batches = [clouds[start : start + _CLOUDS] for start in range(0, len(clouds), _CLOUDS)]
    found = list(in_order(partial(_extents, settings=settings), batches, pool))
    view = projection.smallest_view(part for extents, _ in found for part in extents)
    if view is not None:
        return view
    return next(
        (reason for _, reason in found if reason),
        f"{clouds[0]}: no point closer than dataset.lidar.max_range_m ({settings.max_range_m:g} m)",
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
    results: list[Found | Unreadable] = []
    shapes = []  # of the images that fill rows of the shard
    for job in jobs:
        try:
            decoded = decode(job, settings)
        except UserError as error:
            results.append(_unreadable(job, str(error)))
        else:
            content.add(decoded.image, decoded.raster, job.label)
            results.append(decoded.facts)
            shapes.append(decoded.image_shape)
    if content.filled:
        content.save(path)
    filled = slice(content.filled)
    rows = enumerate(
        group_stats.compute(
            content.images[filled], content.rasters[filled], settings.scan.max_range_m, shapes
        )
    )
    return [
        result if isinstance(result, Unreadable) else _written(path, result, *next(rows))
        for result in results
    ]


def _unreadable(job: Job, message: str) -> Unreadable:
    """Place and reason apart, so that many groups with the same reason are told together."""
    for place in (job.image_path, job.scan_path, job.place):
        if message.startswith(f"{place}: "):
            return Unreadable(place, message.removeprefix(f"{place}: "))
    return Unreadable(job.place, message)


def _written(path: Path, found: Found, row: int, stats: GroupStats) -> Written:
    stats = replace(
        stats,
        image_digest=found.image_digest or stats.image_digest,
        raster_digest=found.raster_digest or stats.raster_digest,
    )
    return Written(path.name, row, stats, found)


def _extents(clouds: list[str], settings: ScanSettings) -> tuple[list[Extent], str | None]:
    """The directions of the points of clouds together, and why the first unreadable one is."""
    found, reason = [], None
    for path in clouds:
        try:
            extent = projection.extent(scans.read_points(path, settings), settings.max_range_m)
        except UserError as error:
            reason = reason or str(error)
            continue
        if extent is not None:
            found.append(extent)
    return ([projection.joined(found)] if found else []), reason
