"""Decodes groups of a dataset in parallel processes, which never touch the database.

S = side of the cache's square tensors;  C = colour channels
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import loky
import numpy as np
from jaxtyping import Float, UInt8

from stages.lib import inspection, pictures, scans
from stages.lib.inspection import Inspection
from stages.lib.scans import Angles, FieldOfView
from stages.lib.terminal import UserError

BATCH = 128  # groups handed to a process at once
_BATCHES_AHEAD = 2  # of the reader, for each process: more would only fill memory

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """What is needed to decode one group."""

    picture: Path
    scan: Path  # media file of the LiDAR slice
    field: bytes | None  # the LiDAR field as stored, where there is one
    angles: Angles | None
    place: str  # names the group in messages


@dataclass(frozen=True)
class Settings:
    """How every group is decoded; params.yaml tells the meanings."""

    format: str
    orientation: str
    size: int
    max_pixels: int
    max_range_m: float
    view: FieldOfView | None = None  # of point clouds


@dataclass(frozen=True)
class Decoded:
    """One group's tensors and what is to be said of them."""

    rgb: UInt8[np.ndarray, "C S S"]
    xyza: Float[np.ndarray, "4 S S"]
    num_far: int  # returns farther away than the sensor reaches
    facts: Inspection


def decode(job: Job, settings: Settings) -> Decoded:
    """One group's tensors.

    Raises:
        UserError: when its picture or scan is missing, damaged or not of the configured form.
    """
    rgb = pictures.read_picture(job.picture, settings.size, settings.max_pixels)
    raster, num_far = _read_raster(job, settings)
    xyza = scans.fitted(raster, settings.size, settings.orientation)
    return Decoded(rgb, xyza, num_far, inspection.inspect(rgb, xyza, settings.max_range_m))


def _read_raster(job: Job, settings: Settings) -> tuple[np.ndarray, int]:
    if settings.format == "pcd":
        assert settings.view is not None, "a field of view is fitted before clouds are rasterised"
        points = scans.read_cloud(job.scan, settings.max_pixels)
        return scans.from_cloud(points, settings.view, settings.size, settings.max_range_m), 0
    if settings.format == "npy":
        array = scans.read_npy(job.scan, settings.max_pixels)
        return scans.from_range(array, job.angles, settings.max_range_m, str(job.scan)), 0
    if job.field is None:
        raise UserError(f"{job.place}: no array in dataset.lidar.field")
    array = scans.read_array(job.field, settings.max_pixels, job.place, compressed=True)
    if settings.format == "range":
        return scans.from_range(array, job.angles, settings.max_range_m, job.place), 0
    if settings.format == "xyz":
        return scans.from_xyz(array, settings.max_range_m, job.place), 0
    return scans.from_xyza(array, settings.max_range_m, job.place)


def decode_all(
    batches: Iterable[list[Job]], settings: Settings, workers: int
) -> Iterator[list[Decoded | str]]:
    """Decodes batches in order, a few ahead of the reader; a faulty group gives its error message."""
    return _map(partial(_decode_batch, settings=settings), batches, workers)


def fit_view(batches: Iterable[list[Job]], max_pixels: int, workers: int) -> FieldOfView | None:
    """The least field of view that holds the points of all these clouds; unreadable ones are left out."""
    found = _map(partial(_views, max_pixels=max_pixels), batches, workers)
    views = [view for batch in found for view in batch]
    if not views:
        return None
    azimuth = np.array([view.azimuth_rad for view in views])
    zenith = np.array([view.zenith_rad for view in views])
    return FieldOfView(
        (float(azimuth[:, 0].min()), float(azimuth[:, 1].max())),
        (float(zenith[:, 0].min()), float(zenith[:, 1].max())),
    )


def num_workers(setting: int | str) -> int:
    """Processes for `export.workers`; "auto" is one per CPU core."""
    return len(os.sched_getaffinity(0)) if setting == "auto" else int(setting)


def _map(work: Callable[[list[Job]], T], batches: Iterable[list[Job]], workers: int) -> Iterator[T]:
    """`work` on each batch in other processes, in order and only a few batches ahead of the reader.

    Raises:
        UserError: when a process dies, as a decoder of a hostile file might.
    """
    pool = loky.ProcessPoolExecutor(workers)
    ahead: deque[tuple[list[Job], Future[T]]] = deque()
    try:
        for batch in batches:
            ahead.append((batch, pool.submit(work, batch)))
            if len(ahead) > workers * _BATCHES_AHEAD:
                yield _result(*ahead.popleft())
        while ahead:
            yield _result(*ahead.popleft())
    finally:
        pool.shutdown(kill_workers=True)


def _result(batch: list[Job], future: Future[T]) -> T:
    try:
        return future.result()
    except BrokenProcessPool:
        raise UserError(
            f"{batch[0].place}: a decoding process died at this group or at one of the hundreds after it; "
            "out of memory, or a file that its decoder cannot bear"
        ) from None


def _decode_batch(jobs: list[Job], settings: Settings) -> list[Decoded | str]:
    return [_decode_or_tell(job, settings) for job in jobs]


def _decode_or_tell(job: Job, settings: Settings) -> Decoded | str:
    try:
        return decode(job, settings)
    except UserError as error:
        return str(error)


def _views(jobs: list[Job], max_pixels: int) -> list[FieldOfView]:
    views = []
    for job in jobs:
        try:
            view = scans.field_of_view(scans.read_cloud(job.scan, max_pixels))
        except UserError:
            continue  # told when it is decoded
        if view is not None:
            views.append(view)
    return views
