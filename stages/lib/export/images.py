"""Reads image files (PNG, JPEG), which may be damaged or hostile, as square arrays of the cache.

S = side of the cache's square tensors;  C = colour channels
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from stages.lib.core.errors import UserError, first_line
from stages.lib.export.group_stats import digest_of

# Decoders of rarer formats are less tested against hostile files.
FORMATS = ("PNG", "JPEG")
# Modes that become grey (1 channel), RGB (3) or RGBA (4); 16-bit greys are scaled down first.
_TARGET_OF_MODE = {"1": "L", "L": "L", "LA": "RGBA", "PA": "RGBA", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}
_TARGET_OF_MODE |= {"CMYK": "RGB", "YCbCr": "RGB"}
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I")


@dataclass(frozen=True)
class SquareImage:
    """An image in the size of the cache."""

    pixels: UInt8[np.ndarray, "C S S"]
    # Of the file's own pixels, where the cache holds fewer or coarser ones: a change of one must change the digest.
    digest: str | None


def read_image(path: Path | str, size: int, max_pixels: int) -> SquareImage:
    """The image of a file: grey (1 channel), RGB (3) or RGBA (4), 8 bits, channels first.

    The longer side is resized to `size` (Lanczos, anti-aliased) and the shorter one in proportion;
    two equally wide black margins make it square. A JPEG is turned as its EXIF entry says.

    Args:
        max_pixels: an image whose header declares more is refused before it is decoded.

    Raises:
        UserError: when the file is missing, is no PNG or JPEG, is damaged, or is too large.
    """
    image, sixteen_bits = read_whole(path, max_pixels)
    digest = None
    if sixteen_bits is not None:
        digest = digest_of(sixteen_bits)
    elif image.size != (size, size):
        digest = digest_of(np.asarray(image))
    if image.size != (size, size):
        image = _fitted(image, size)
    return SquareImage(np.moveaxis(np.atleast_3d(np.asarray(image)), -1, 0), digest)


def read_whole(path: Path | str, max_pixels: int) -> tuple[Image.Image, np.ndarray | None]:
    """The image of a file in its own size (mode L, RGB or RGBA), and its values if these have 16 bits.

    Raises as `read_image` does.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path}: not a regular file")
        with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as file:
            if file.width * file.height > max_pixels:
                raise UserError(
                    f"{path}: {file.width} x {file.height} pixels; more than export.max_pixels ({max_pixels:,})"
                )
            sixteen_bits = np.asarray(file) if file.mode in _SIXTEEN_BIT else None
            image = _eight_bits(file, path)
            if file.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                image = ImageOps.exif_transpose(image)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: more pixels than export.max_pixels ({max_pixels:,})") from None
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files
        raise UserError(f"{path}: unreadable image, or neither PNG nor JPEG ({first_line(error)})") from None
    return image, sixteen_bits


def _eight_bits(file: Image.Image, path: Path | str) -> Image.Image:
    """The decoded image in mode L, RGB or RGBA."""
    if file.mode in _SIXTEEN_BIT:
        values = np.asarray(file, dtype=np.int64)
        return Image.fromarray((np.clip(values, 0, 65535) // 257).astype(np.uint8))
    if file.mode not in _TARGET_OF_MODE:
        raise UserError(f"{path}: images of mode {file.mode} are not supported; grey, RGB and RGBA are")
    has_transparency = file.mode in ("RGB", "P") and "transparency" in file.info
    if _TARGET_OF_MODE[file.mode] == file.mode and not has_transparency:
        file.load()
        return file
    return file.convert("RGBA" if has_transparency else _TARGET_OF_MODE[file.mode])


def _fitted(image: Image.Image, size: int) -> Image.Image:
    scale = size / max(image.size)
    fitted = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(fitted, Image.Resampling.LANCZOS)
    square = Image.new(image.mode, (size, size))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square
