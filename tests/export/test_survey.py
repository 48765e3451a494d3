"""What data show about units, axes and bit depth before they are decoded, and what is told about lost returns."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pypcd4 import PointCloud
from support.datasets import ANGLES, fo, range_image, stored_as, to_xyza, write_dataset

from stages.lib.core.errors import UserError
from stages.lib.export import images, survey
from stages.lib.export.images import ImageFacts
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors import samples
from stages.lib.tensors.manifest import Manifest

RNG = np.random.default_rng(5)
RANGES = {"dataset__lidar__format": "range", "dataset__lidar__field": "range"}
CLOUDS = {"dataset__lidar__format": "pcd", "dataset__lidar__field": None}
IN_INFO = {"azimuth": ANGLES.tolist(), "zenith": ANGLES.tolist()}


def train(manifest: Manifest, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return samples.read(manifests.FOLDER, manifest, "train", index)


def told(manifest: Manifest, *words: str) -> bool:
    return any(all(word in text for word in words) for text in manifest.warnings)


def test_millimetres_are_refused_and_read_when_named(
    tmp_path: Path, run_export: Callable[..., Manifest]
) -> None:
    def in_mm(range_m: np.ndarray) -> np.ndarray:
        return np.where(range_m < 50, range_m * 1000, 0).astype(np.uint16)

    folder = write_dataset(tmp_path / "data", change=stored_as("range", in_mm), info=IN_INFO)
    with pytest.raises(
        UserError, match=r"farther than .* m with dataset.lidar.unit: m; .* millimetres \(mm\)"
    ):
        run_export(folder, **RANGES)
    manifest = run_export(folder, **RANGES, dataset__lidar__unit="mm")
    assert np.allclose(train(manifest)[1], to_xyza(range_image(0)), atol=2e-3)


def test_degrees_are_refused_and_read_when_named(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    info: dict[str, object] = {name: np.rad2deg(ANGLES).tolist() for name in ("azimuth", "zenith")}
    folder = write_dataset(tmp_path / "data", change=stored_as("range", lambda r: r), info=info)
    with pytest.raises(UserError, match=r"dataset.lidar.angle_unit: deg"):
        run_export(folder, **RANGES)
    manifest = run_export(folder, **RANGES, dataset__lidar__angle_unit="deg")
    assert np.allclose(train(manifest)[1], to_xyza(range_image(0)), atol=1e-4)


def test_axes_of_a_camera_are_told_and_read_when_named(
    tmp_path: Path, run_export: Callable[..., Manifest]
) -> None:
    def in_camera_axes(range_m: np.ndarray) -> np.ndarray:
        x, y, z, a = to_xyza(range_m)
        return np.stack([x, -z, y, a])

    folder = write_dataset(tmp_path / "data", change=stored_as("points", in_camera_axes))
    manifest = run_export(folder, dataset__lidar__field="points")
    assert told(manifest, "dataset.lidar.axes is lidar", "with camera")
    manifest = run_export(folder, dataset__lidar__field="points", dataset__lidar__axes="camera")
    assert not told(manifest, "axes")
    assert np.array_equal(train(manifest)[1], to_xyza(range_image(0)))


def write_cloud(make: Callable[[int], np.ndarray]) -> Callable[[int, Path], Path]:
    def write(number: int, path: Path) -> Path:
        PointCloud.from_xyz_points(make(number).astype(np.float32)).save(path.with_suffix(".pcd"))
        return path.with_suffix(".pcd")

    return write


def scene(number: int, count: int = 100) -> np.ndarray:
    """Points in a view of 40 x 20 degrees, at 10 to 20 m."""
    rng = np.random.default_rng(number)
    y = rng.uniform(10, 20, count)
    return np.stack([np.tan(rng.uniform(-0.35, 0.35, count)) * y, y, rng.uniform(-0.17, 0.17, count) * y], 1)


def test_what_clouds_lose_is_counted_and_told(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    def cloud(number: int) -> np.ndarray:
        return np.concatenate([scene(number), scene(number, 60) * 5.5, np.full((40, 3), np.nan)])

    folder = write_dataset(tmp_path / "data", write_scan=write_cloud(cloud))
    view = {"azimuth": [-8.0, 25.0], "zenith": [-12.0, 12.0]}
    manifest = run_export(folder, **CLOUDS, dataset__lidar__field_of_view_deg=view)
    counts = manifest.returns["train"]
    assert counts["stored"] == 18 * 200 and counts["not_finite"] == 18 * 40
    assert counts["beyond_range"] == 18 * 60 and 18 * 20 < counts["outside_view"] < 18 * 50
    rasters = [train(manifest, index)[1] for index in range(18)]
    assert counts["kept"] == sum(int(raster[3].sum()) for raster in rasters)
    lost = ("beyond_range", "outside_view", "merged", "not_finite")
    assert counts["kept"] + sum(counts[cause] for cause in lost) == counts["stored"]
    assert set(manifest.returns) == {"train", "validation", "test"}
    assert told(manifest, "lost", "max_range_m", "outside the field of view") and told(manifest, "not finite")


def test_nothing_lost_is_no_warning(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(write_dataset(tmp_path / "data", groups=30))
    assert manifest.returns["train"]["kept"] == manifest.returns["train"]["stored"] > 0
    assert not told(manifest, "lost") and not told(manifest, "axes")


def test_no_return_at_all_is_an_error(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(tmp_path / "data", write_scan=write_cloud(scene))
    with pytest.raises(
        UserError, match=r"no LiDAR return .* left of 1,800 .*1,800 outside the field of view"
    ):
        run_export(
            folder, **CLOUDS, dataset__lidar__field_of_view_deg={"azimuth": [60, 90], "zenith": [-10, 10]}
        )
    with pytest.raises(
        UserError, match=r"the first one: .*-scan.pcd: no point closer than dataset.lidar.max"
    ):
        run_export(folder, **CLOUDS, dataset__lidar__max_range_m=2)


@pytest.mark.parametrize("form", ["pcd", "xyza"])
def test_rasters_fill_what_wide_images_fill(
    tmp_path: Path, run_export: Callable[..., Manifest], form: str
) -> None:
    """An image of 12 x 40 fills 7 of 24 rows, and so does its scan, turned or not."""

    def widen(number: int, rgb: fo.Sample, lidar: fo.Sample) -> None:
        Image.fromarray(RNG.integers(1, 255, (12, 40, 3), dtype=np.uint8)).save(rgb.filepath)
        lidar["xyza"] = np.full((4, 96, 30), 5 + number, np.float32)

    folder = write_dataset(tmp_path / "data", change=widen, write_scan=write_cloud(lambda n: scene(n, 3000)))
    settings = CLOUDS if form == "pcd" else {}
    manifest = run_export(folder, **settings, dataset__lidar__orientation="rotate-90")
    image, raster = train(manifest)
    rows = np.flatnonzero(image.any(axis=(0, 2)))
    assert rows.tolist() == list(range(8, 15))
    assert np.array_equal(np.flatnonzero(raster[3].any(axis=1)), rows) and raster[3].any(axis=0).all()
    assert told(manifest, "lost", "merged into a nearer return")


def test_a_view_that_no_picture_shows_is_told(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    def around(number: int) -> np.ndarray:
        angle = np.random.default_rng(number).uniform(-np.pi, np.pi, 500)
        return np.stack([np.cos(angle) * 10, np.sin(angle) * 10, np.sin(5 * angle)], 1)

    manifest = run_export(write_dataset(tmp_path / "data", write_scan=write_cloud(around)), **CLOUDS)
    assert told(manifest, "field of view is 360 x", "dataset.lidar.field_of_view_deg")
    assert told(manifest, "different shapes", "stretched")


def test_clouds_without_a_training_split_left(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    """All groups are of one scene, so those of the training split are left out: that is the error to show."""

    def unite(number: int, rgb: fo.Sample, scan_: fo.Sample) -> None:
        rgb["drive"] = scan_["drive"] = "d"

    folder = write_dataset(tmp_path / "data", change=unite, write_scan=write_cloud(scene))
    with pytest.raises(UserError, match="scene 'd' is in two splits"):
        run_export(folder, **CLOUDS, dataset__scene_field="drive")


def grey16(make: Callable[[int], np.ndarray]) -> Callable[[int, fo.Sample, fo.Sample], None]:
    def change(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        Image.fromarray(make(number).astype(np.uint16)).save(rgb.filepath)

    return change


def test_twelve_bits_are_recognised(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    pixels = RNG.integers(0, 4096, (30, 24, 24))
    folder = write_dataset(tmp_path / "data", change=grey16(lambda number: pixels[number]))
    manifest = run_export(folder)
    assert told(manifest, "12 bits", "dataset.rgb.max_value")
    assert np.array_equal(train(manifest)[0][0], pixels[0] * 255 // 4095)
    manifest = run_export(folder, dataset__rgb__max_value=65535)
    assert not told(manifest, "bits") and train(manifest)[0].max() <= 15
    manifest = run_export(folder, dataset__rgb__max_value=2000)
    assert told(manifest, "above dataset.rgb.max_value: 2000") and train(manifest)[0].max() == 255


def test_temperatures_are_refused(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    folder = write_dataset(
        tmp_path / "data", change=grey16(lambda number: RNG.integers(28500, 31000, (24, 24)))
    )
    with pytest.raises(
        UserError, match=r"values from about 28,\d+ to 30,\d+ \(temperatures\?\).*rgb.max_value"
    ):
        run_export(folder)
    assert train(run_export(folder, dataset__rgb__max_value=65535))[0].min() >= 110


@pytest.mark.parametrize(
    ("low", "high", "white"),
    [(0, 900, 1023), (0, 200, 255), (30, 16000, 16383), (0, 60000, 65535), (5000, 60000, 65535)],
)
def test_white_follows_from_the_largest_value(low: int, high: int, white: int) -> None:
    found = [ImageFacts(1, 16, 10, 10, high, low, high)]
    assert survey.judged_white(found, None, "data")[0] == white


def png_of_16_bits(path: Path, values: np.ndarray) -> Path:
    """Colours of 16 bits, which Pillow cannot write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def test_colours_of_16_bits_are_read_whole(tmp_path: Path) -> None:
    values = RNG.integers(0, 4096, (8, 8, 4))
    values[..., 3] = 65535
    path = png_of_16_bits(tmp_path / "a.png", values)
    found = images.facts(path, 1000)
    assert (found.bits, found.channels, found.high) == (16, 4, values[..., :3].max())
    read = images.read_image(path, 8, 1000, white=4095).pixels
    assert np.array_equal(read[:3], np.moveaxis(values[..., :3], -1, 0) * 255 // 4095)
    assert (read[3] == 255).all()
    assert images.read_image(path, 8, 1000).pixels[:3].max() <= 15


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["L.png", "I;16.png", "RGB.jpg", "P.png"])
def test_every_picture_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, kind: str) -> None:
    """One bright corner, which each of the eight turns puts elsewhere; of grey, 16 bits, colours and palettes."""
    mode, suffix = kind.split(".")
    pixels = np.zeros((16, 16), dtype=np.uint16 if mode == "I;16" else np.uint8)
    pixels[:8, :4] = 65535 if mode == "I;16" else 255
    image = Image.fromarray(pixels)
    image = image if mode in ("L", "I;16") else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    read = images.read_image(tmp_path / f"a.{suffix}", 16, 1000).pixels[0] > 127
    bright = pixels > 127
    turns = {2: np.fliplr, 3: lambda p: np.rot90(p, 2), 4: np.flipud, 5: np.transpose}
    turns |= {6: lambda p: np.rot90(p, -1), 7: lambda p: np.rot90(p, 2).T, 8: np.rot90}
    assert np.array_equal(read, turns.get(orientation, lambda p: p)(bright))


def test_most_images_decide_on_the_channels(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    """The first two pictures that are decoded are grey and RGBA: they are the odd ones, not the 28 others."""

    def vary(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        pixels = RNG.integers(0, 255, (24, 24, 4), dtype=np.uint8)
        if number == 4:
            Image.fromarray(pixels[..., 0]).save(rgb.filepath)
        if number == 9:
            Image.fromarray(pixels).save(rgb.filepath)

    folder = write_dataset(tmp_path / "data", change=vary)
    with pytest.raises(UserError, match=r"004.png: 1 colour channels, but most images have 3.*and 1 more"):
        run_export(folder)
    manifest = run_export(folder, export__on_error="skip")
    assert manifest.channels["rgb"] == 3
    assert sum(sum(split.values()) for split in manifest.counts.values()) == 28


def test_returns_without_a_direction_are_told(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    def mark_all(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        scan["xyza"] = to_xyza(range_image(number))
        scan["xyza"][3] = 1

    manifest = run_export(write_dataset(tmp_path / "data", change=mark_all))
    assert told(manifest, "30 scans with returns at x = y = z = 0")


def test_small_sets_say_what_cannot_be_expected(tmp_path: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(write_dataset(tmp_path / "data"))
    assert told(manifest, "only 18 training groups", "do not expect", "more data")
    assert told(manifest, "only 6 test scenes", "do not expect", "dataset.test_fraction")
