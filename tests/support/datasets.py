"""Writes small FiftyOne datasets in the way of a user's own script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from stages.lib.datasets import database, synthetic
from stages.lib.lidar import geometry

fo = database.connect()

SIZE = 24
ANGLES = synthetic.angles_rad(SIZE)

CLASSES = ("cone", "cube", "ball")
SPLITS = ("train", "train", "train", "validation", "test")


def write_dataset(
    folder: Path,
    *,
    groups: int = 30,
    classes: tuple[str, ...] = CLASSES,
    splits: tuple[str, ...] = SPLITS,
    size: tuple[int, int] = (24, 24),
    mode: str = "RGB",
    slices: tuple[str, str] = ("rgb", "lidar_img"),
    label_field: str = "ground_truth",
    info: dict[str, object] | None = None,
    write_scan: Callable[[int, Path], Path] | None = None,
    change: Callable[[int, fo.Sample, fo.Sample], None] | None = None,
) -> Path:
    """A grouped dataset without scenes; `change` may alter each group's two samples before they are added.

    Args:
        size: height and width of images and rasters.
        write_scan: writes a group's LiDAR file, given its number and a path without suffix; by default a
            depth image.
        info: of the dataset as a whole.
        splits: tags, given to the groups in turn; every class meets every split.
    """
    media = folder.parent / f"{folder.name}-media"
    media.mkdir(parents=True)
    rng = np.random.default_rng(0)
    dataset = fo.Dataset()
    dataset.add_group_field("group", default=slices[0])
    samples = []
    for number in range(groups):
        group = fo.Group()
        channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
        pixels = rng.integers(0, 255, (*size, *channels), dtype=np.uint8)
        Image.fromarray(pixels, mode).save(media / f"{number:03d}.png")
        depth = media / f"{number:03d}-depth.png"
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(depth)
        raster = rng.normal(0, 5, (4, *size)).astype(np.float32)
        raster[3] = rng.random(size) < 0.5
        label = classes[(number // len(splits)) % len(classes)]
        scan = write_scan(number, media / f"{number:03d}-scan") if write_scan else depth
        rgb = fo.Sample(str(media / f"{number:03d}.png"), group=group.element(slices[0]))
        lidar = fo.Sample(str(scan), group=group.element(slices[1]))
        for sample in (rgb, lidar):
            sample.tags = [splits[number % len(splits)]]
            sample[label_field] = fo.Classification(label=label)
        lidar["xyza"] = raster
        if change:
            change(number, rgb, lidar)
        samples += [rgb, lidar]
    dataset.info = info or {}
    dataset.add_samples(samples)
    dataset.export(export_dir=str(folder), dataset_type=fo.types.FiftyOneDataset)
    dataset.delete()
    return folder


def write_detections(folder: Path, *, tags: tuple[str, ...] = ()) -> Path:
    """Groups with a picture of 80 x 40 pixels, an array of 4 x 20 x 40 on it, and detections left and right."""
    media = folder.parent / f"{folder.name}-media"
    media.mkdir(parents=True)
    dataset = fo.Dataset()
    dataset.add_group_field("group", default="rgb")
    for number in range(8):
        group = fo.Group()
        path = media / f"picture{number}.png"
        pixels = np.random.default_rng(number).integers(1, 255, (40, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        rgb = fo.Sample(str(path), group=group.element("rgb"))
        rgb["ground_truth"] = fo.Detections(
            detections=[
                fo.Detection(label="cat", bounding_box=[0.125, 0.25, 0.25, 0.5], distance_m=7.5, note="x"),
                fo.Detection(label="dog", bounding_box=[0.625, 0.25, 0.25, 0.5], occlusion=1),
                fo.Detection(label="dog", bounding_box=[0.125, 0.25, 0.25, 0.5]),  # the cat's crop
                fo.Detection(label="cat", bounding_box=[1.25, 0.25, 0.25, 0.5]),  # outside
            ]
        )
        array = np.zeros((4, 20, 40), dtype=np.float32)
        array[:, 10, 10] = (1, 2, 3 + number, 1)
        array[:, 4, 29] = (-4, 5, 6 + number, 1)
        scan = fo.Sample(str(path), group=group.element("lidar_img"), xyza=array)
        for sample in (rgb, scan):
            sample["scene"] = f"scene{number // 2}"
            sample.tags = [tags[number % len(tags)]] if tags else []
        dataset.add_samples([rgb, scan])
    dataset.export(export_dir=str(folder), dataset_type=fo.types.FiftyOneDataset)
    dataset.delete()
    return folder


def write_raw(folder: Path, names: dict[str, range], nested: tuple[str, ...] = ()) -> Path:
    """Writes raw folders as the course's: cubes/rgb/0000.png, cubes/lidar/0000.npy, cubes/azimuth.npy, ..."""
    rng = np.random.default_rng(0)
    for label, numbers in names.items():
        scans = folder / label / "lidar" / ("lidar" if label in nested else "")
        images = folder / label / "rgb"
        scans.mkdir(parents=True)
        images.mkdir()
        for angle in ("azimuth", "zenith"):
            np.save(folder / label / f"{angle}.npy", ANGLES.astype(np.float32))
        for number in numbers:
            pixels = rng.integers(0, 255, (SIZE, SIZE, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"{number:04d}.png")
            np.save(scans / f"{number:04d}.npy", rng.uniform(5, 80, (SIZE, SIZE)).astype(np.float32))
    return folder


def range_image(number: int) -> np.ndarray:
    """Ranges in metres; about half of the cells have no return."""
    rng = np.random.default_rng(number)
    range_m = rng.uniform(5, 45, (SIZE, SIZE)).astype(np.float32)
    range_m[rng.random((SIZE, SIZE)) < 0.5] = 100.0
    return range_m


def stored_as(
    field: str, convert: Callable[[np.ndarray], np.ndarray]
) -> Callable[[int, fo.Sample, fo.Sample], None]:
    def change(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
        scan[field] = convert(range_image(number))

    return change


def to_xyz(range_m: np.ndarray) -> np.ndarray:
    raster = geometry.raster_from_range(range_m, ANGLES, ANGLES, 1000.0)
    raster[:3, range_m > 90] = np.nan
    return raster[:3]


def to_xyza(range_m: np.ndarray) -> np.ndarray:
    return geometry.raster_from_range(range_m, ANGLES, ANGLES, 50.0)
