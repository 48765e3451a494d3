"""Pictures and point clouds of the cached rasters, for the App: what the networks see of each scan.

FOLDER/test-000012.raster.png    the raster as a depth image
FOLDER/test-000012.top.png       its points from above, the thumbnail of the cloud
FOLDER/test-000012.pcd           its points

They are written once, in parallel processes, and stay until the data change.

S = side of a raster;  P = pixels of a thumbnail's side;  N = points
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import loky
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from safetensors import safe_open

from stages.lib.core import console, processes
from stages.lib.lidar import depth_image
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest

SIDE = 96  # pixels of a thumbnail's side
_MARGIN = 6  # pixels around the points of a thumbnail
_DOT = 3  # pixels of a point's side


@dataclass(frozen=True)
class GroupFiles:
    """The files of one group."""

    raster: Path
    cloud: Path
    thumbnail: Path


def files(folder: Path, split: str, index: int) -> GroupFiles:
    """The files of a group, given its place in its split."""
    stem = folder / f"{split}-{index:06d}"
    return GroupFiles(*(stem.with_suffix(suffix) for suffix in (".raster.png", ".pcd", ".top.png")))


def write(folder: Path, manifest: Manifest, workers: int) -> None:
    """Writes the files of all groups that are not there yet, and removes those of other data.

    Args:
        folder: for the files of these data alone.
        workers: number of processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other)
    jobs = []
    for split in manifest.splits():
        start = 0
        for shard in manifest.shards[split]:
            path = manifests.FOLDER / shard
            with safe_open(path, framework="np") as file:
                count = file.get_slice("lidar").get_shape()[0]
            wanted = [files(folder, split, start + row) for row in range(count)]
            # A group's raster is written last.
            missing = [row for row, group in enumerate(wanted) if not group.raster.is_file()]
            if missing:
                jobs.append((path, missing, [wanted[row] for row in missing]))
            start += count
    if not jobs:
        return
    watch = partial(processes.exit_with_parent, os.getpid())
    with processes.sigint_blocked():
        pool = loky.ProcessPoolExecutor(min(workers, len(jobs)), initializer=watch)
        tasks = [pool.submit(_write_shard, *job) for job in jobs]
    try:
        for task in console.track(tasks, "pictures and clouds", len(tasks), "shard"):
            task.result()
    finally:
        pool.shutdown(kill_workers=True)


def _write_shard(shard: Path, rows: list[int], targets: list[GroupFiles]) -> None:
    with safe_open(shard, framework="np") as file:
        rasters = file.get_tensor("lidar")
    for row, target in zip(rows, targets, strict=True):
        raster = rasters[row]
        points = raster[:3, raster[3] > 0].T
        _in_one_go(target.cloud, partial(_write_cloud, points))
        _in_one_go(target.thumbnail, partial(_write_png, from_above(points)))
        _in_one_go(target.raster, partial(_write_png, depth_image.from_raster(raster)))


def from_above(points: Float[np.ndarray, "N 3"]) -> UInt8[np.ndarray, "P P 3"]:
    """The points seen from above, y up and x to the right; low points are blue, high ones yellow."""
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    if len(points) == 0:
        return image
    low, high = points.min(axis=0), points.max(axis=0)
    span_m = max(float((high - low)[:2].max()), 1e-6)
    centered = (points[:, :2] - (low + high)[:2] / 2) / span_m  # -0.5..0.5
    room = SIDE - 2 * _MARGIN - _DOT
    columns = (SIDE / 2 - _DOT / 2 + centered[:, 0] * room).round().astype(int)
    rows = (SIDE / 2 - _DOT / 2 - centered[:, 1] * room).round().astype(int)
    height = (points[:, 2] - low[2]) / max(float(high[2] - low[2]), 1e-6)
    colors = np.stack([60 + 195 * height, 110 + 120 * height, 220 - 140 * height], axis=1).astype(np.uint8)
    # Where dots overlap, NumPy keeps the last one: the highest, as seen from above.
    order = np.argsort(height, kind="stable")
    dot = np.arange(_DOT)
    down, right = rows[order, None, None] + dot[:, None], columns[order, None, None] + dot
    image[down, right] = colors[order, None, None]
    return image


def _write_cloud(points: Float[np.ndarray, "N 3"], path: Path) -> None:
    header = (
        "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA binary\n"
    )
    path.write_bytes(header.encode() + np.ascontiguousarray(points, dtype="<f4").tobytes())


def _write_png(pixels: UInt8[np.ndarray, "H W 3"], path: Path) -> None:
    content = io.BytesIO()  # encoded in memory: the encoder's many small writes would take twice as long
    Image.fromarray(pixels).save(content, format="PNG", compress_level=1)
    path.write_bytes(content.getbuffer())


def _in_one_go(path: Path, write_to: Callable[[Path], None]) -> None:
    """So that a kill, or a full disk, leaves no half a file under this name."""
    unfinished = path.with_suffix(".tmp")
    try:
        write_to(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
