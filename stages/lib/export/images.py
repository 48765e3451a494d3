"""Reads image files (PNG, JPEG), which may be damaged or hostile, as square arrays of the cache.

S = side of the cache's square tensors;  C = colour channels
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from stages.lib.core.errors import UserError, first_line
from stages.lib.export.group_stats import digest_of

# Decoders of rarer formats are less tested against hostile files.
FORMATS = ("PNG", "JPEG")
# Modes that become grey (1 channel), RGB (3) or RGBA (4); greys of 16 bits are scaled down first.
_TARGET_OF_MODE = {"1": "L", "L": "L", "LA": "RGBA", "PA": "RGBA", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}
_TARGET_OF_MODE |= {"CMYK": "RGB", "YCbCr": "RGB"}
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I")
_SIXTEEN_BIT_COLORS = ("RGB;16B", "RGBA;16B")  # how Pillow names them before it drops the lower byte
# The turn for each value of a camera's EXIF orientation, but for 1, which means upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


ALL_BITS = 65535  # the value of white in images of 16 bits, if they use all of them


@dataclass(frozen=True)
class SquareImage:
    """An image in the size of the cache."""

    pixels: UInt8[np.ndarray, "C S S"]
    # Of the file's own pixels, where the cache holds fewer or coarser ones: a change of one must change the digest.
    digest: str | None
    shape: tuple[int, int]  # height and width without margins


@dataclass(frozen=True)
class ImageFacts:
    """What one file shows about how all were stored."""

    channels: int
    bits: int  # of a value: 8 or 16
    width: int  # upright
    height: int
    high: int  # largest value of a colour
    # Of 16 bits: percentiles 1 and 99 of the values, so that a few defective pixels do not count.
    usual_low: int = 0
    usual_high: int = 0
    is_widened: bool = False  # values of 8 bits in 16: each byte twice


def read_image(path: Path | str, size: int, max_pixels: int, white: int = ALL_BITS) -> SquareImage:
    """The image of a file: grey (1 channel), RGB (3) or RGBA (4), 8 bits, channels first.

    The longer side is resized to `size` (Lanczos, anti-aliased) and the shorter one in proportion;
    two equally wide black margins make it square. An image is turned as its EXIF entry says.

    Args:
        max_pixels: an image whose header declares more is refused before it is decoded.
        white: the value of white in images of 16 bits; larger ones become white.

    Raises:
        UserError: when the file is missing, is no PNG or JPEG, is damaged, or is too large.
    """
    image, stored = read_whole(path, max_pixels, white)
    digest = None
    if stored is not None:
        digest = digest_of(stored)
    elif image.size != (size, size):
        digest = digest_of(np.asarray(image))
    shape = (size, size)
    if image.size != shape:
        image, shape = _fitted(image, size)
    return SquareImage(np.moveaxis(np.atleast_3d(np.asarray(image)), -1, 0), digest, shape)


def read_whole(
    path: Path | str, max_pixels: int, white: int = ALL_BITS
) -> tuple[Image.Image, np.ndarray | None]:
    """The upright image of a file in its own size (mode L, RGB or RGBA), and its values if these have 16 bits.

    Arguments and errors are those of `read_image`.
    """
    with _opened(path, max_pixels) as file:
        stored = _sixteen_bits(file, path, only_grey=white == ALL_BITS)
        image = _eight_bits(file, path) if stored is None else _scaled(stored, white)
        turn = _UPRIGHT.get(file.getexif().get(ExifTags.Base.Orientation, 1))
        return (image if turn is None else image.transpose(turn)), stored


def facts(path: Path | str, max_pixels: int) -> ImageFacts:
    """How a file stores its image; raises as `read_image` does."""
    with _opened(path, max_pixels) as file:
        stored = _sixteen_bits(file, path, only_grey=False)
        values = np.atleast_3d(np.asarray(_eight_bits(file, path)) if stored is None else stored)
        is_turned = file.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    channels = values.shape[-1]
    width, height = values.shape[:2] if is_turned else values.shape[1::-1]
    colors = values[..., :3]
    high = int(colors.max())
    if stored is None:
        return ImageFacts(channels, 8, width, height, high)
    low, most = np.percentile(colors, (1, 99)).astype(int).tolist()
    return ImageFacts(channels, 16, width, height, high, low, most, not (colors % 257).any())


@contextmanager
def _opened(path: Path | str, max_pixels: int) -> Iterator[Image.Image]:
    """The file of an image, not decoded yet; errors of its decoding are raised with its name."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path}: not a regular file")
        with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as file:
            if file.width * file.height > max_pixels:
                raise UserError(
                    f"{path}: {file.width} x {file.height} pixels; more than export.max_pixels ({max_pixels:,})"
                )
            yield file
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnidentifiedImageError:  # whose own words say no more than that
        raise UserError(f"{path}: unreadable image, or neither PNG nor JPEG") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: more pixels than export.max_pixels ({max_pixels:,})") from None
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files
        raise UserError(f"{path}: unreadable image, or neither PNG nor JPEG ({first_line(error)})") from None


def _sixteen_bits(file: Image.Image, path: Path | str, *, only_grey: bool) -> np.ndarray | None:
    """Values of 16 bits as stored, H x W or H x W x channels; None for an image of 8 bits.

    Args:
        only_grey: None for colours too. Pillow decodes these to the higher byte of each value, which is all that is
            wanted unless white has another value than 65535.
    """
    if file.mode in _SIXTEEN_BIT:
        return np.clip(np.asarray(file, dtype=np.int64), 0, 65535)
    tiles = getattr(file, "tile", None)
    coding = tiles[0].args if tiles else None
    if only_grey or coding not in _SIXTEEN_BIT_COLORS:
        return None
    # The lower byte is the higher one of the other byte order.
    with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as other:
        other.tile = [tile._replace(args=coding.replace("16B", "16L")) for tile in tiles or []]
        lower = np.asarray(other)
    return np.asarray(file).astype(np.int64) * 256 + lower


def _scaled(values: np.ndarray, white: int) -> Image.Image:
    """Values of 16 bits in 8."""
    eight_bits = np.minimum(values, white) * 255 // white
    if values.shape[2:] == (4,):
        eight_bits[..., 3] = values[..., 3] // 257  # alpha has a scale of its own
    return Image.fromarray(eight_bits.astype(np.uint8))


def _eight_bits(file: Image.Image, path: Path | str) -> Image.Image:
    """The decoded image in mode L, RGB or RGBA."""
    if file.mode not in _TARGET_OF_MODE:
        raise UserError(f"{path}: images of mode {file.mode} are not supported; grey, RGB and RGBA are")
    has_transparency = file.mode in ("RGB", "P") and "transparency" in file.info
    if _TARGET_OF_MODE[file.mode] == file.mode and not has_transparency:
        file.load()
        return file
    return file.convert("RGBA" if has_transparency else _TARGET_OF_MODE[file.mode])


def _fitted(image: Image.Image, size: int) -> tuple[Image.Image, tuple[int, int]]:
    """The image on a black square, and its own height and width there."""
    scale = size / max(image.size)
    width, height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    square = Image.new(image.mode, (size, size))
    square.paste(image, ((size - width) // 2, (size - height) // 2))
    return square, (height, width)
