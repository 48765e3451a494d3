"""Hostile files: whatever they contain, decoding returns an array or raises an error of one line."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pypcd4 import Encoding, PointCloud

from stages.lib.core.errors import UserError
from stages.lib.export import images
from stages.lib.lidar import formats, readers

MAX_PIXELS = 64 * 64
# Mutated files of each kind; more than two thousand in all with the sweeps.
EXAMPLES = [25, pytest.param(250, marks=pytest.mark.sweep)]


def image_bytes(kind: str) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def array_bytes(compressed: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones((4, 20, 20), dtype=np.float32))
    return zlib.compress(stream.getvalue()) if compressed else stream.getvalue()


def cloud_bytes(encoding: Encoding) -> bytes:
    stream = io.BytesIO()
    # Repetitive, because the library stores points uncompressed if compression does not make them smaller.
    points = np.tile(np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32), (25, 1))
    PointCloud.from_xyz_points(points).save(stream, encoding=encoding)
    return stream.getvalue()


SEEDS = {
    "png": image_bytes("PNG"),
    "jpeg": image_bytes("JPEG"),
    "field": array_bytes(compressed=True),
    "inflated field": array_bytes(compressed=False),
    "npy": array_bytes(compressed=False),
    **{f"pcd {encoding.value}": cloud_bytes(encoding) for encoding in Encoding},
}


def decode(kind: str, content: bytes, folder: Path) -> np.ndarray:
    if kind == "field":
        return readers.read_array(content, MAX_PIXELS, "here", compressed=True)
    if kind == "inflated field":
        return readers.read_array(zlib.compress(content), MAX_PIXELS, "here", compressed=True)
    path = folder / kind.replace(" ", ".")
    path.write_bytes(content)
    if kind == "npy":
        return readers.read_npy(path, MAX_PIXELS)
    if kind.startswith("pcd"):
        return readers.read_cloud(path, MAX_PIXELS)
    return images.read_image(path, 16, MAX_PIXELS).pixels


@st.composite
def mutations(draw: st.DrawFn, content: bytes) -> bytes:
    """The file with bytes changed, cut off, removed or inserted, mostly near the header."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.one_of(st.integers(0, min(200, len(data))), st.integers(0, len(data))))
        action = draw(st.sampled_from(["change", "cut", "remove", "insert"]))
        if action == "change" and place < len(data):
            data[place] = draw(st.integers(0, 255))
        elif action == "cut":
            del data[place:]
        elif action == "remove":
            del data[place : place + draw(st.integers(1, 20))]
        else:
            data[place:place] = draw(st.binary(min_size=1, max_size=20))
    return bytes(data)


@pytest.mark.parametrize("kind", SEEDS)
def test_the_untouched_file_is_read(kind: str, tmp_path: Path) -> None:
    assert decode(kind, SEEDS[kind], tmp_path).size > 0


@pytest.mark.parametrize("kind", SEEDS)
@pytest.mark.parametrize("examples", EXAMPLES)
def test_mutated_files_give_tensors_or_one_line(kind: str, examples: int, tmp_path: Path) -> None:
    refused = 0

    @settings(max_examples=examples, deadline=2000, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(mutations(SEEDS[kind]))
    def attempt(content: bytes) -> None:
        nonlocal refused
        try:
            decoded = decode(kind, content, tmp_path)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600
        else:
            assert decoded.dtype.kind in "biuf"

    attempt()
    assert refused > 0, "no mutation was ever refused"


def npy_with_header(header: str, body: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 1000000, 1000000), }", "in 0 bytes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }", "in 0 bytes"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (4,), }", "type object; numbers are needed"),
        ("{'descr': '<U10', 'fortran_order': False, 'shape': (4,), }", "numbers are needed"),
        ("__import__('os').system('true')", "unreadable array"),
    ],
)
def test_lying_headers(header: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        readers.read_array(npy_with_header(header), MAX_PIXELS, "here", compressed=False)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    array = np.empty(1, dtype=object)
    array[0] = {"a": 1}
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match="type object; numbers are needed"):
        readers.read_npy(tmp_path / "a.npy", MAX_PIXELS)


def test_compression_bombs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"array of more than [\d,]+ bytes"):
        readers.read_array(zlib.compress(bytes(10**8)), MAX_PIXELS, "here", compressed=True)
    Image.new("L", (10_000, 10_000)).save(tmp_path / "bomb.png")
    with pytest.raises(UserError, match=r"10000 x 10000 pixels; more than export.max_pixels"):
        images.read_image(tmp_path / "bomb.png", 16, MAX_PIXELS)


def test_a_cloud_that_declares_too_much(tmp_path: Path) -> None:
    honest = cloud_bytes(Encoding.BINARY_COMPRESSED)
    path = tmp_path / "a.pcd"
    path.write_bytes(honest.replace(b"POINTS 50", b"POINTS 4000000000"))
    with pytest.raises(UserError, match=r"declares 4,000,000,000 points"):
        readers.read_cloud(path, MAX_PIXELS)
    head, _, body = honest.partition(b"DATA binary_compressed\n")
    path.write_bytes(head + b"DATA binary_compressed\n" + body[:4] + (2**31).to_bytes(4, "little") + body[8:])
    with pytest.raises(UserError, match=r"2,147,483,648 bytes for 50 points"):
        readers.read_cloud(path, MAX_PIXELS)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", "BMP")
    with pytest.raises(UserError, match="unreadable image, or neither PNG nor JPEG"):
        images.read_image(tmp_path / "a.png", 8, MAX_PIXELS)


def test_angles_are_read_from_the_dataset_alone(tmp_path: Path) -> None:
    """Although a label contains `..`, or is too long for a file name, or a file is a link to another folder."""
    folder = tmp_path / "data"
    (folder / "azimuth_").mkdir(parents=True)
    (folder / "zenith_").mkdir()
    for name in ("azimuth", "zenith"):
        np.save(tmp_path / "secret.npy", np.zeros(4))
        (folder / f"{name}.npy").symlink_to(tmp_path / "secret.npy")
    for label in ("/../../secret", "a" * 400):
        assert formats.find_angles({}, folder, folder / "0.npy", label, MAX_PIXELS) is None


def test_pipes_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="not a regular file"):
        images.read_image(tmp_path / "pipe.png", 16, MAX_PIXELS)
    with pytest.raises(UserError, match="not a regular file"):
        readers.read_npy(tmp_path / "pipe.png", MAX_PIXELS)


def test_degrees_are_no_radians(tmp_path: Path) -> None:
    info = {"azimuth": [-16.0, 15.5], "zenith": [0.0, 1.0]}
    with pytest.raises(UserError, match="angles of up to 16; radians are needed, not degrees"):
        formats.find_angles(info, tmp_path, None, "cubes", MAX_PIXELS)
