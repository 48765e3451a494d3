"""Cuts labelled objects out of whole pictures: for each object a square crop, and a raster that lies on it.

N = returns in a picture;  S = side of a raster
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from stages.lib.core.errors import UserError
from stages.lib.datasets.writer import NewGroup
from stages.lib.export import images
from stages.lib.lidar import depth_image

_MARGIN = 0.1  # on each side of a box, as a share of its longer side
_MIN_SIDE_PX = 20  # a smaller crop would show next to nothing around the object

NO_RETURN = "without a return in the crop"
SAME_CROP = "with the crop of an object of another class"
OUTSIDE = "without an area in the picture"


@dataclass(frozen=True)
class Box:
    """An object's place in its picture, in pixels; pixel i reaches from i to i + 1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class LabelledObject:
    """An object in a picture."""

    label: str
    box: Box
    fields: dict[str, float | int] = field(default_factory=dict)  # of its samples, by name


@dataclass(frozen=True)
class PictureReturns:
    """The LiDAR's returns that lie in a picture."""

    column_px: Float[np.ndarray, "N"]
    row_px: Float[np.ndarray, "N"]
    depth_m: Float[
        np.ndarray, "N"
    ]  # of several returns in a cell of a raster, the one with the smallest is kept
    xyz_m: Float[np.ndarray, "N 3"]


class Scan(ABC):
    """Where the returns of a picture come from."""

    @abstractmethod
    def returns(self, width: int, height: int, max_pixels: int) -> PictureReturns:
        """The returns in a picture of this size in pixels.

        Raises:
            UserError: when they cannot be read.
        """


@dataclass(frozen=True)
class Frame:
    """A picture with its scan and its objects."""

    name: str  # its files begin with it
    scene: str
    split: str
    picture_path: Path
    scan: Scan
    objects: list[LabelledObject]
    # Whether boxes are shares of the picture's width and height, not pixels.
    has_relative_boxes: bool = False


@dataclass(frozen=True)
class Crop:
    """A square of a picture, in pixels; it may reach over the picture's edges."""

    left: int
    top: int
    side: int


@dataclass(frozen=True)
class FrameResult:
    """The groups that were cut from one frame."""

    groups: list[NewGroup]
    left_out: Counter[str]  # objects by reason
    error: str | None = None  # why nothing could be cut


def cut_frames(
    frames: list[Frame], folder: Path, size: int, max_pixels: int, white: int
) -> list[FrameResult]:
    """Cuts the objects of some frames, and writes their crops into data/ and depth images into depth/.

    Args:
        size: side of the rasters in cells.
        max_pixels: larger pictures and clouds are refused.
        white: the value of white in pictures of 16 bits; crops have 8 bits.
    """
    results = []
    for frame in frames:
        try:
            results.append(_cut_frame(frame, folder, size, max_pixels, white))
        except UserError as error:
            results.append(FrameResult([], Counter(), f"{frame.picture_path}: not cut; {error}"))
    return results


def _cut_frame(frame: Frame, folder: Path, size: int, max_pixels: int, white: int) -> FrameResult:
    picture, _ = images.read_whole(frame.picture_path, max_pixels, white)
    returns = frame.scan.returns(picture.width, picture.height, max_pixels)
    groups = []
    left_out = Counter[str]()
    label_of: dict[Crop, str] = {}
    for number, item in enumerate(frame.objects):
        box = _visible(item, frame, picture)
        if box is None:
            left_out[OUTSIDE] += 1
            continue
        crop = crop_around(box)
        raster = raster_of(returns, crop, size)
        if not raster[3].any():
            left_out[NO_RETURN] += 1
            continue
        if label_of.setdefault(crop, item.label) != item.label:
            left_out[SAME_CROP] += 1
            continue
        name = f"{frame.name}_{number:02d}.png"
        files = {"rgb": folder / "data" / name, "lidar_img": folder / "depth" / name}
        cut_out(picture, crop).save(files["rgb"])
        Image.fromarray(depth_image.from_raster(raster)).save(files["lidar_img"])
        fields = item.fields | {"returns": int(raster[3].sum())}
        groups.append(NewGroup(frame.scene, item.label, frame.split, files, raster, fields))
    return FrameResult(groups, left_out)


def crop_around(box: Box) -> Crop:
    """The square around the middle of a box, with a margin; at least 20 pixels wide and high."""
    longer = max(box.right - box.left, box.bottom - box.top)
    side = max(_MIN_SIDE_PX, round((1 + 2 * _MARGIN) * longer))
    left = math.floor((box.left + box.right - side) / 2)
    top = math.floor((box.top + box.bottom - side) / 2)
    return Crop(left, top, side)


def cut_out(picture: Image.Image, crop: Crop) -> Image.Image:
    """The crop in the picture's own pixels; black where it reaches over the picture's edges."""
    return picture.crop((crop.left, crop.top, crop.left + crop.side, crop.top + crop.side))


def raster_of(returns: PictureReturns, crop: Crop, size: int) -> Float[np.ndarray, "4 S S"]:
    """XYZA raster that lies on the crop; of several returns in a cell the nearest one is kept."""
    scale = size / crop.side
    rows = np.floor((returns.row_px - crop.top) * scale).astype(np.int64)
    columns = np.floor((returns.column_px - crop.left) * scale).astype(np.int64)
    inside = np.flatnonzero((rows >= 0) & (rows < size) & (columns >= 0) & (columns < size))
    # Far returns first: the nearest one of a cell is written last.
    order = inside[np.argsort(-returns.depth_m[inside], kind="stable")]
    raster = np.zeros((4, size, size), dtype=np.float32)
    raster[:3, rows[order], columns[order]] = returns.xyz_m[order].T
    raster[3, rows[order], columns[order]] = 1
    return raster


def _visible(item: LabelledObject, frame: Frame, picture: Image.Image) -> Box | None:
    """The part of an object's box that lies in the picture, in pixels; None if there is none."""
    width, height = map(float, picture.size)
    x_scale, y_scale = (width, height) if frame.has_relative_boxes else (1.0, 1.0)
    box = Box(
        max(item.box.left * x_scale, 0.0),
        max(item.box.top * y_scale, 0.0),
        min(item.box.right * x_scale, width),
        min(item.box.bottom * y_scale, height),
    )
    return box if box.right > box.left and box.bottom > box.top else None
