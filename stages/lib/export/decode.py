"""Decodes groups of a dataset, and writes them, in parallel processes that never touch the database.

S = side of the cache's square tensors;  C = colour channels
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
from stages.lib.export.group_stats import Inspection, digest_of
from stages.lib.export.shards import Shard
from stages.lib.lidar import formats, projection, readers
from stages.lib.lidar.formats import Angles
from stages.lib.lidar.projection import FieldOfView

_BATCHES_AHEAD = 2  # of the reader, for each process: more would only fill memory

_CLOUDS = 128  # looked at by a process at once

Batch = TypeVar("Batch")
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """What is needed to decode one group."""

    picture: str
    scan: str  # media file of the LiDAR slice
    field: object  # the LiDAR field as stored: bytes, if it is an array
    angles: Angles | None
    label: int
    place: str  # names the group in messages


@dataclass(frozen=True)
class Settings:
    """How every group is decoded; params.yaml tells the meanings."""

    format: str
    orientation: str
    size: int
    max_pixels: int
    max_range_m: float
    channels: int  # of colour, that all pictures must have
    view: FieldOfView | None = None  # of point clouds


@dataclass(frozen=True)
class _Found:
    """What the tensors alone don't tell."""

    num_far: int  # returns farther away than the sensor reaches
    # Of picture and raster as found, where the tensors hold fewer pixels or cells than that.
    picture_digest: str | None
    scan_digest: str | None


@dataclass(frozen=True)
class Decoded(_Found):
    """One group's tensors."""

    rgb: UInt8[np.ndarray, "C S S"]
    xyza: Float[np.ndarray, "4 S S"]


@dataclass(frozen=True)
class Written:
    """Where a group's tensors lie, and what is to be said of them."""

    shard: str
    row: int
    facts: Inspection
    num_far: int  # returns farther away than the sensor reaches


@dataclass(frozen=True)
class Pool:
    """The decoding processes."""

    executor: loky.ProcessPoolExecutor
    workers: int


@contextmanager
def started(setting: int | str) -> Iterator[Pool]:
    """Starts the processes, which get ready in the background; ends them when they are done with.

    Args:
        setting: `export.workers`; "auto" is one per CPU core.
    """
    workers = len(os.sched_getaffinity(0)) if setting == "auto" else int(setting)
    executor = loky.ProcessPoolExecutor(workers)
    for _ in range(workers):
        executor.submit(_get_ready)
    try:
        yield Pool(executor, workers)
    finally:
        executor.shutdown(kill_workers=True)


def _get_ready() -> None:
    """Nothing to do: a process that is sent this function has imported this module."""


def decode(job: Job, settings: Settings) -> Decoded:
    """One group's tensors.

    Raises:
        UserError: when its picture or scan is missing, damaged or not of the configured form.
    """
    picture = images.read_picture(job.picture, settings.size, settings.max_pixels)
    rgb = picture.rgb
    if len(rgb) != settings.channels:
        raise UserError(
            f"{job.picture}: {len(rgb)} colour channels where the first picture has {settings.channels}; "
            "all must have the same"
        )
    raster, num_far = _read_raster(job, settings)
    xyza = formats.fitted(raster, settings.size, settings.orientation)
    scan_digest = digest_of(raster) if raster.shape != xyza.shape else None
    return Decoded(num_far, picture.digest, scan_digest, rgb, xyza)


def _read_raster(job: Job, settings: Settings) -> tuple[np.ndarray, int]:
    if settings.format == "pcd":
        assert settings.view is not None, "a field of view is fitted before clouds are rasterised"
        points = readers.read_cloud(job.scan, settings.max_pixels)
        return projection.from_cloud(points, settings.view, settings.size, settings.max_range_m), 0
    if settings.format == "npy":
        array = readers.read_npy(job.scan, settings.max_pixels)
        return formats.from_range(array, job.angles, settings.max_range_m, job.scan), 0
    if not isinstance(job.field, bytes):
        raise UserError(f"{job.place}: no array in the field that dataset.lidar.field names")
    array = readers.read_array(job.field, settings.max_pixels, job.place, compressed=True)
    if settings.format == "range":
        return formats.from_range(array, job.angles, settings.max_range_m, job.place), 0
    if settings.format == "xyz":
        return formats.from_xyz(array, settings.max_range_m, job.place), 0
    return formats.from_xyza(array, settings.max_range_m, job.place)


def count_channels(paths: list[str], size: int, max_pixels: int, pool: Pool) -> int:
    """Colour channels of the first picture that can be read; 3 when none can."""
    return next(_map(partial(_count_channels, size=size, max_pixels=max_pixels), [paths], pool))


def _count_channels(paths: list[str], size: int, max_pixels: int) -> int:
    for path in paths:
        try:
            return len(images.read_picture(path, size, max_pixels).rgb)
        except UserError:
            continue  # told when it is decoded
    return 3


def write_shards(
    shards: Iterable[tuple[Path, list[Job]]], settings: Settings, pool: Pool
) -> Iterator[list[Written | str]]:
    """Decodes and writes shards in order, a few ahead of the reader; a faulty group gives its message.

    Args:
        shards: each one's file and the jobs whose groups it is to hold.
    """
    return _map(partial(_write_shard, settings=settings), shards, pool)


def fit_view(clouds: list[str], max_pixels: int, max_range_m: float, pool: Pool) -> FieldOfView | None:
    """The least field of view that holds the points of all these clouds; unreadable ones are left out."""
    batches = [clouds[start : start + _CLOUDS] for start in range(0, len(clouds), _CLOUDS)]
    found = _map(partial(_views, max_pixels=max_pixels, max_range_m=max_range_m), batches, pool)
    views = [view for batch in found for view in batch]
    if not views:
        return None
    azimuth = np.array([view.azimuth_rad for view in views])
    zenith = np.array([view.zenith_rad for view in views])
    return FieldOfView(
        (float(azimuth[:, 0].min()), float(azimuth[:, 1].max())),
        (float(zenith[:, 0].min()), float(zenith[:, 1].max())),
    )


def _map(work: Callable[[Batch], T], batches: Iterable[Batch], pool: Pool) -> Iterator[T]:
    """`work` on each batch in the pool's processes, in order and only a few batches ahead of the reader.

    Raises:
        UserError: when a process dies, as a decoder of a hostile file might.
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
            "a decoding process died: out of memory, or at a file that its decoder cannot bear; with "
            "export.workers: 1 and a smaller export.shard_groups, progress tells where"
        ) from None


def _write_shard(shard: tuple[Path, list[Job]], settings: Settings) -> list[Written | str]:
    path, jobs = shard
    room = Shard(len(jobs), settings.channels, settings.size)
    results: list[_Found | str] = []
    for job in jobs:
        try:
            decoded = decode(job, settings)
        except UserError as error:
            results.append(str(error))
        else:
            room.add(decoded.rgb, decoded.xyza, job.label)
            results.append(_Found(decoded.num_far, decoded.picture_digest, decoded.scan_digest))
    if room.filled:
        room.save(path)
    facts = group_stats.inspect(room.rgb[: room.filled], room.xyza[: room.filled], settings.max_range_m)
    rows = enumerate(facts)
    return [result if isinstance(result, str) else _written(path, result, *next(rows)) for result in results]


def _written(path: Path, found: _Found, row: int, facts: Inspection) -> Written:
    facts = replace(
        facts,
        picture_digest=found.picture_digest or facts.picture_digest,
        scan_digest=found.scan_digest or facts.scan_digest,
    )
    return Written(path.name, row, facts, found.num_far)


def _views(clouds: list[str], max_pixels: int, max_range_m: float) -> list[FieldOfView]:
    views = []
    for path in clouds:
        try:
            view = projection.field_of_view(readers.read_cloud(path, max_pixels), max_range_m)
        except UserError:
            continue  # told when it is decoded
        if view is not None:
            views.append(view)
    return views
