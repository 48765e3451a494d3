"""From a user's picture or array to a tensor of the cache.

H, W = height and width as found;  S = side of the cache's square tensors;  C = colour channels
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError

from stages.lib import lidar
from stages.lib.terminal import UserError

_CHANNELS_OF_MODE = {"L": 1, "RGB": 3, "RGBA": 4}


def read_picture(path: Path, size: int) -> UInt8[np.ndarray, "C S S"]:
    """A picture file as channels first, grey (1), RGB (3) or RGBA (4), resized to `size`.

    A picture that is not square is padded with black to a square first, so the aspect ratio stays.

    Raises:
        UserError: when the file is missing or is no readable picture of these kinds.
    """
    try:
        with Image.open(path) as file:
            picture = file.convert("RGBA" if file.mode in ("P", "LA", "PA") else file.mode)
            picture.load()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: unreadable picture ({_first_line(error)})") from None
    if picture.mode not in _CHANNELS_OF_MODE:
        raise UserError(
            f"{path}: picture of mode {picture.mode}; supported are grey, RGB and RGBA with 8 bits"
        )
    if picture.size != (size, size):
        picture = _padded_to_square(picture).resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    return np.moveaxis(np.atleast_3d(pixels), -1, 0).copy()


def read_xyza(array: object, size: int, orientation: str, place: str) -> Float[np.ndarray, "4 S S"]:
    """An XYZA raster turned as `orientation` says, float32, sampled to `size` cells a side.

    Rasters are sampled by nearest neighbour, since a mean of two returns is a point in thin air.
    Cells without a return are zero.

    Args:
        array: 4 x H x W as stored: x, y, z in metres and a > 0 where there is a return.
        place: names the array in an error.

    Raises:
        UserError: when the array is missing or is no 4 x H x W array of finite numbers.
    """
    if array is None:
        raise UserError(f"{place}: no array")
    raster = np.asarray(array)
    if raster.ndim != 3 or raster.shape[0] != 4 or 0 in raster.shape or raster.dtype.kind not in "fiu":
        raise UserError(
            f"{place}: array of shape {raster.shape} and type {raster.dtype}; an xyza field holds "
            "numbers of shape (4, H, W)"
        )
    raster = lidar.ORIENTATIONS[orientation](raster).astype(np.float32)
    if not np.isfinite(raster).all():
        raise UserError(f"{place}: NaN or infinite values in the xyza array")
    returned = raster[3] > 0
    raster = np.where(returned, raster, 0)
    raster[3] = returned
    return _sampled_to_square(raster, size)


def _padded_to_square(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    if picture.size == (side, side):
        return picture
    square = Image.new(picture.mode, (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def _sampled_to_square(raster: Float[np.ndarray, "4 H W"], size: int) -> Float[np.ndarray, "4 S S"]:
    _, height, width = raster.shape
    if (height, width) == (size, size):
        return np.ascontiguousarray(raster)
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((4, side, side), dtype=raster.dtype)
    square[:, top : top + height, left : left + width] = raster
    picks = ((np.arange(size) + 0.5) * side / size).astype(int)
    return np.ascontiguousarray(square[:, picks][:, :, picks])


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
