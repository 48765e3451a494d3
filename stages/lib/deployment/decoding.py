"""Decodes the groups of a dataset as the model's own data were, each with the sensors that it has.

N = groups decoded together;  S = side of the model's square images and rasters;  C = colour channels
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
from jaxtyping import Bool, Float, UInt8

from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.export import decode, images, plan, scans, survey
from stages.lib.export.decode import Pool
from stages.lib.export.scans import Job, ScanSettings
from stages.lib.export.survey import Look
from stages.lib.lidar.projection import FieldOfView
from stages.lib.params import Dataset, Export
from stages.lib.tensors.manifest import Manifest


@dataclass(frozen=True)
class Settings:
    """How every group is decoded."""

    sensors: tuple[str, ...]  # that are wanted
    size: int
    channels: int  # colour channels that the model was trained on
    white: int  # value of white in images of 16 bits
    shape: tuple[int, int]  # height and width, without margins, of a raster whose image is missing
    scan: ScanSettings


@dataclass(frozen=True)
class Measured:
    """The measurements of some groups; zeros where a sensor is missing."""

    images: UInt8[np.ndarray, "N C S S"]
    rasters: Float[np.ndarray, "N 4 S S"]  # as they cover the images
    missing: dict[str, Bool[np.ndarray, "N"]]  # by sensor
    errors: dict[int, str]  # by the place of the group, whose measurements are zeros


def settings_of(
    manifest: Manifest,
    dataset: Dataset,
    settings: Export,
    sensors: tuple[str, ...],
    sample: Sequence[Job],
    image_paths: Sequence[str],
    pool: Pool,
) -> tuple[Settings, list[str]]:
    """How the groups are decoded, and warnings; what was fitted on the training data comes from the manifest.

    Args:
        sensors: that are wanted.
        sample: some groups, which are looked at.
        image_paths: of all groups; empty where there is none.

    Raises:
        UserError: when the data cannot be what the settings say, or do not fit the model.
    """
    lidar = dataset.lidar
    scan = plan.scan_settings(lidar, settings.max_pixels, _trained_view(manifest, lidar.format))
    scan = replace(scan, orientation=manifest.orientation)
    looks = look(sample, scan, sensors, pool)
    warnings = survey.scan_warnings(looks, scan, dataset.path)
    white = images.ALL_BITS
    seen = survey.images_of(looks)
    if "rgb" in sensors and seen:
        found, wanted = survey.most_channels(looks), manifest.channels["rgb"]
        if found != wanted:
            raise UserError(
                f"{dataset.path}: images of {found} colour channels; the model was trained on {wanted}"
            )
        paths = [path for path in image_paths if os.path.isfile(path)]
        white, guess = survey.white(
            seen, paths, dataset.rgb.max_value, settings.max_pixels, pool, dataset.path
        )
        warnings += [guess] if guess else []
    shape = _usual_shape(looks, scan, manifest.image_size)
    return Settings(sensors, manifest.image_size, manifest.channels["rgb"], white, shape, scan), warnings


def _trained_view(manifest: Manifest, format: str) -> FieldOfView | None:
    if format != "pcd":
        return None
    found = manifest.field_of_view_deg
    if found is None:
        raise UserError(
            "dataset.lidar.format is pcd, but the model was not trained on point clouds, so it has no field of view"
        )
    return FieldOfView.from_degrees(found["azimuth"], found["zenith"])


def look(jobs: Sequence[Job], settings: ScanSettings, sensors: tuple[str, ...], pool: Pool) -> list[Look]:
    """Looks at these groups in the decoding processes; a missing or unreadable part of a group is None."""
    batches = [jobs[start : start + 8] for start in range(0, len(jobs), 8)]
    work = partial(_look, settings=settings, sensors=sensors)
    return [one for part in decode.in_order(work, batches, pool) for one in part]


def _look(jobs: Sequence[Job], settings: ScanSettings, sensors: tuple[str, ...]) -> list[Look]:
    return [_look_at(job, settings, sensors) for job in jobs]


def _look_at(job: Job, settings: ScanSettings, sensors: tuple[str, ...]) -> Look:
    found = Look(None, None, None, None)
    with suppress(UserError):  # reported when it is decoded
        found = replace(found, image=images.facts(job.image_path, settings.max_pixels))
    if "lidar" in sensors and _has_scan(job, settings):
        try:
            scan, aspect, view = scans.facts(job, settings)
        except UserError:
            return found
        return replace(found, scan=scan, aspect=aspect, view=view)
    return found


def _usual_shape(looks: list[Look], settings: ScanSettings, size: int) -> tuple[int, int]:
    """Height and width of the usual image in a square of this side; of the usual scan, where there is no image."""
    aspects = [one.image.width / one.image.height for one in looks if one.image]
    aspects = aspects or [one.aspect for one in looks if one.aspect]
    if not aspects and settings.view:
        aspects = [scans.aspect(settings.view, settings.orientation)]
    aspect = median(aspects) if aspects else 1.0
    return max(1, round(size * min(1, 1 / aspect))), max(1, round(size * min(1, aspect)))


def measured(batches: Iterable[list[Job]], settings: Settings, pool: Pool) -> Iterator[Measured]:
    """Decodes batches of groups in order; only a few batches are in memory at a time."""
    return decode.in_order(partial(_decode, settings=settings), batches, pool)


def _decode(jobs: list[Job], settings: Settings) -> Measured:
    count, size = len(jobs), settings.size
    found = Measured(
        images=np.zeros((count, settings.channels, size, size), np.uint8),
        rasters=np.zeros((count, 4, size, size), np.float32),
        missing={sensor: np.ones(count, bool) for sensor in SENSORS},
        errors={},
    )
    for row, job in enumerate(jobs):
        try:
            _decode_one(job, settings, found, row)
        except UserError as error:
            found.errors[row] = str(error)
    return found


def _decode_one(job: Job, settings: Settings, found: Measured, row: int) -> None:
    scan, shape = settings.scan, settings.shape
    if job.image_path and os.path.lexists(job.image_path):
        try:
            image = images.read_image(job.image_path, settings.size, scan.max_pixels, settings.white)
        except UserError:
            if "rgb" in settings.sensors:
                raise
        else:
            # Of an image that is not wanted, the shape still tells which cells a raster fills.
            shape = image.shape
            if "rgb" in settings.sensors:
                if len(image.pixels) != settings.channels:
                    raise UserError(
                        f"{job.image_path}: {len(image.pixels)} colour channels; the model was trained on "
                        f"{settings.channels}"
                    )
                found.images[row] = image.pixels
                found.missing["rgb"][row] = False
    if "lidar" in settings.sensors and _has_scan(job, scan):
        found.rasters[row] = scans.read(job, scan, shape, settings.size).raster
        found.missing["lidar"][row] = False


def _has_scan(job: Job, settings: ScanSettings) -> bool:
    if settings.format in ("npy", "pcd"):
        return bool(job.scan_path) and os.path.lexists(job.scan_path)
    return job.field is not None
