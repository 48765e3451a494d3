"""Writes the built-in dataset: cubes and spheres in front of a camera and a LiDAR.

    python -m stages.synthesize

Reads `synthetic` from params.yaml; writes data/synthetic/, a FiftyOneDataset folder with the slices
rgb, lidar_img and lidar_pcd. The same settings give the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pypcd4 import Encoding, PointCloud

from stages.lib import params
from stages.lib.core import console
from stages.lib.datasets import database, rendering, synthetic
from stages.lib.datasets.synthetic import PlannedScene
from stages.lib.datasets.writer import NewGroup, write
from stages.lib.lidar import depth_image
from stages.lib.params import Synthetic

IMAGE_SIZE = 64


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    synthesize(params.load().synthetic)


def synthesize(settings: Synthetic) -> None:
    """Writes the whole dataset; an existing one is replaced."""
    database.require_answer()  # before anything is deleted
    shutil.rmtree(synthetic.FOLDER, ignore_errors=True)
    (synthetic.FOLDER / "data").mkdir(parents=True)
    plan = synthetic.plan(settings)
    total = sum(len(scene.labels) for scene in plan)
    groups = console.track(render_groups(plan, settings), "rendering", total, "group")
    write(synthetic.FOLDER, "synthetic cubes and spheres", groups, settings.seed)


def render_groups(plan: list[PlannedScene], settings: Synthetic) -> Iterator[NewGroup]:
    """Renders every group of every scene and writes its files."""
    rendered = rendering.render(plan, settings, IMAGE_SIZE)
    for number, (planned, groups) in enumerate(zip(plan, rendered, strict=True)):
        for group in groups:
            yield NewGroup(
                scene=f"scene-{number:05d}",
                label=group.label,
                split=planned.split,
                files=write_files(f"scene-{number:05d}-{group.label}", group.image, group.raster),
                raster=group.raster,
                fields=group.fields,
            )


def write_files(name: str, image: np.ndarray, raster: np.ndarray) -> dict[str, Path]:
    """Writes image, depth image and point cloud of a group; returns the file of each slice."""
    files = {
        "rgb": synthetic.FOLDER / "data" / f"{name}.png",
        "lidar_img": synthetic.FOLDER / "data" / f"{name}.depth.png",
        "lidar_pcd": synthetic.FOLDER / "data" / f"{name}.pcd",
    }
    Image.fromarray(image).save(files["rgb"])
    Image.fromarray(depth_image.from_raster(raster)).save(files["lidar_img"])
    points = raster[:3, raster[3] > 0].T
    PointCloud.from_xyz_points(points).save(files["lidar_pcd"], encoding=Encoding.BINARY)
    return files


if __name__ == "__main__":
    console.run(main)
