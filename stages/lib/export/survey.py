"""Looks at some images and scans before all are decoded: how are they stored, and can the settings be right?

What cannot be right is an error at once; what is doubtful becomes a warning.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.export import images, scans
from stages.lib.export.decode import Pool, in_order
from stages.lib.export.images import ImageFacts
from stages.lib.export.scans import Job, ScanSettings
from stages.lib.lidar import plausibility
from stages.lib.lidar.plausibility import ScanFacts
from stages.lib.lidar.projection import FieldOfView

SAMPLE = 64  # groups that are looked at
_BATCH = 128  # images of one task
_BIT_DEPTHS = (8, 10, 12, 14, 16)
# A camera's images of 16 bits whose values fill less than this share of the scale, far from black, are temperatures.
_NARROW = 1 / 4
_DARK = 31  # of 255: images that never get brighter are nearly black
_ASPECT_FACTOR = 1.5  # between raster and image, from which on a warning is given


@dataclass(frozen=True)
class Look:
    """What one group shows."""

    image: ImageFacts | None  # None if it is unreadable, which is reported when it is decoded
    scan: ScanFacts | None
    aspect: float | None  # width of the scan by its height, after its turn
    view: FieldOfView | None  # of a range image


def look(jobs: Sequence[Job], settings: ScanSettings, pool: Pool) -> list[Look]:
    """Looks at these groups in the decoding processes."""
    batches = [jobs[start : start + 8] for start in range(0, len(jobs), 8)]
    return [one for part in in_order(partial(_look, settings=settings), batches, pool) for one in part]


def _look(jobs: Sequence[Job], settings: ScanSettings) -> list[Look]:
    return [_look_at(job, settings) for job in jobs]


def _look_at(job: Job, settings: ScanSettings) -> Look:
    image: ImageFacts | None = None
    try:
        image = images.facts(job.image_path, settings.max_pixels)
        return Look(image, *scans.facts(job, settings))
    except UserError:
        return Look(image, None, None, None)


def images_of(looks: list[Look]) -> list[ImageFacts]:
    """What the readable images show."""
    return [one.image for one in looks if one.image]


def most_channels(looks: list[Look]) -> int:
    """The number of colour channels that most images have; 3 if no image is readable."""
    counted = Counter(image.channels for image in images_of(looks))
    return max(counted, key=lambda channels: (counted[channels], channels), default=3)


def scan_warnings(looks: list[Look], settings: ScanSettings, source: str) -> list[str]:
    """Warnings about units, axes and shapes.

    Raises:
        UserError: when the ranges cannot be of the configured unit.
    """
    seen = [one.scan for one in looks if one.scan]
    if not seen:
        return []
    facts = sum(seen[1:], seen[0])
    wrong = plausibility.wrong_unit(facts, settings.unit, settings.max_range_m)
    if wrong:
        raise UserError(f"{source}: {wrong}")
    view = next((one.view for one in looks if one.view), None)
    found = [
        plausibility.doubtful_unit(facts),
        plausibility.doubtful_axes(facts, settings.axes, settings.view is not None),
        plausibility.moved_sensor(facts),
        plausibility.too_wide(view, "are its angles degrees (dataset.lidar.angle_unit)?") if view else None,
        _aspect_warning([(one.aspect, one.image) for one in looks if one.aspect and one.image]),
    ]
    return [warning for warning in found if warning]


def view_warnings(looks: list[Look], view: FieldOfView, orientation: str) -> list[str]:
    """Warnings about the field of view of point clouds."""
    aspect = scans.aspect(view, orientation)
    found = [
        plausibility.too_wide(view, "set dataset.lidar.field_of_view_deg to the camera's"),
        _aspect_warning([(aspect, one.image) for one in looks if one.image]),
    ]
    return [warning for warning in found if warning]


def _aspect_warning(pairs: list[tuple[float, ImageFacts]]) -> str | None:
    """A warning when rasters are much wider or narrower than their images, on which they are stretched."""
    if not pairs:
        return None
    factor = median(aspect * image.height / image.width for aspect, image in pairs)
    if 1 / _ASPECT_FACTOR <= factor <= _ASPECT_FACTOR:
        return None
    aspect, image = pairs[0]
    return (
        f"scans and images have different shapes (width by height: {aspect:.2f} and "
        f"{image.width / image.height:.2f}); each scan is stretched over its image, so cells lie on the right pixels "
        "only if both show the same view"
    )


def white(
    found: list[ImageFacts],
    paths: list[str],
    configured: int | None,
    max_pixels: int,
    pool: Pool,
    source: str,
) -> tuple[int, str | None]:
    """The value of white in images of 16 bits, and a warning when it is a guess.

    Args:
        found: facts about some images.
        paths: all images, which are read if some of `found` have 16 bits.
        configured: dataset.rgb.max_value.

    Raises:
        UserError: when the images are no pictures but, for example, temperatures.
    """
    if not any(image.bits == 16 for image in found):
        highest = max((image.high for image in found), default=255)
        if highest > _DARK:
            return images.ALL_BITS, None
        return (
            images.ALL_BITS,
            f"no value of {len(found)} images is larger than {highest} of 255: they are nearly black",
        )
    every = image_facts(paths, max_pixels, pool)
    return judged_white([image for image in every if image.bits == 16], configured, source)


def white_of_files(
    paths: list[str], configured: int | None, max_pixels: int, pool: Pool, source: str
) -> tuple[int, str | None]:
    """As `white`, for images of which nothing is known yet."""
    places = np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).astype(int)
    found = image_facts([paths[place] for place in places], max_pixels, pool)
    return white(found, paths, configured, max_pixels, pool, source)


def image_facts(paths: list[str], max_pixels: int, pool: Pool) -> list[ImageFacts]:
    """How these files store their images, without the unreadable ones."""
    size = min(_BATCH, math.ceil(len(paths) / pool.workers) or 1)
    batches = [paths[start : start + size] for start in range(0, len(paths), size)]
    parts = in_order(partial(_facts, max_pixels=max_pixels), batches, pool)
    return [image for part in parts for image in part]


def _facts(paths: list[str], max_pixels: int) -> list[ImageFacts]:
    found = []
    for path in paths:
        try:
            found.append(images.facts(path, max_pixels))
        except UserError:
            continue  # reported when it is decoded
    return found


def judged_white(found: list[ImageFacts], configured: int | None, source: str) -> tuple[int, str | None]:
    """As `white`, for the facts about all images of 16 bits."""
    highest = max(image.high for image in found)
    if configured is not None:
        beyond = sum(image.high > configured for image in found)
        if beyond:
            return configured, (
                f"{beyond:,} images have values of up to {highest:,}, above dataset.rgb.max_value: {configured}; "
                "they become white"
            )
        return configured, None
    if all(image.is_widened for image in found):
        return images.ALL_BITS, None
    bits = next(bits for bits in _BIT_DEPTHS if highest < 2**bits)
    full = 2**bits - 1
    low, high = (
        int(np.median([getattr(image, name) for image in found])) for name in ("usual_low", "usual_high")
    )
    if high - low < _NARROW * full and low > full / 8:
        raise UserError(
            f"{source}: images of 16 bits with values from about {low:,} to {high:,} (temperatures?): "
            f"{(high - low) * 255 // full + 1} of 256 grey levels would be left of them; rescale them to 8 bits, or "
            f"set dataset.rgb.max_value: {full} to use them as they are"
        )
    if bits == 16:
        return images.ALL_BITS, None
    return full, (
        f"images of 16 bits have values of up to {highest:,} only, so they count as {bits} bits (white is {full:,}); "
        "dataset.rgb.max_value sets another value of white"
    )
