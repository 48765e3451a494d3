"""Cuts the labelled objects of KITTI's object data into a FiftyOne dataset.

    python -m scripts.ingest kitti FOLDER OUT [--drives FILE] [--lists FILE ...] [--classes CLASS ...]

FOLDER, or training/ in it, contains image_2/ (PNG or JPEG), velodyne/ (.bin), calib/ (.txt) and label_2/ (.txt), with
files of the same name for each frame. Each object becomes a group: a square crop of the picture around its 2D box,
with a margin of 10 % on each side and at least 20 pixels wide; and a raster of the returns in this crop, in camera
axes (x right, y down, z forward). Where a crop reaches over the picture's edges, it is black and has no returns.

Fields of a group: label, scene (the drive, or the frame if no drives are given), distance_m (of the camera from the
middle of the 3D box's bottom), occlusion (0 to 3), truncation (0 to 1), returns (in the raster). Objects without a
return and DontCare regions are counted and left out. Frames with missing or damaged files are left out and listed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from scripts.ingest import objects, output, scenes
from scripts.ingest.cutting import Frame, LabelledObject
from scripts.ingest.kitti_files import DONT_CARE, KittiScan, read_drives, read_labels
from scripts.ingest.objects import Tally
from stages.lib import params
from stages.lib.core import console
from stages.lib.core.errors import UserError

_PICTURES = (".png", ".jpg", ".jpeg")
_MAX_RANGE_M = 120  # of KITTI's LiDAR


def main(arguments: Sequence[str]) -> None:
    given = parse(arguments)
    output.require_new(given.out)
    settings = params.load()
    folder = find_root(given.folder)
    tally = Tally()
    pictures = find_frames(folder, tally.lines)
    labelled = objects.of_classes(read_objects(folder, pictures, tally), given.classes, tally)
    scene_of = find_scenes(labelled, given.drives)
    if given.drives is None and given.lists is None:
        console.report_line(
            "warning: each frame counts as a scene of its own, so near-copies from one drive get into several "
            "splits, and results on them are too good; --drives names the drive of each frame"
        )
    labels = {name: {item.label for item in of_frame} for name, of_frame in labelled.items()}
    split_of = scenes.assign(labels, scene_of, given)
    tally.objects["of frames in no list"] += sum(
        len(of_frame) for name, of_frame in labelled.items() if name not in split_of
    )
    frames = [
        Frame(
            name=name,
            scene=scene_of[name],
            split=split_of[name],
            picture_path=pictures[name],
            scan=KittiScan(folder / "velodyne" / f"{name}.bin", folder / "calib" / f"{name}.txt"),
            objects=labelled[name],
        )
        for name in sorted(split_of)
    ]
    paths = [frame.picture_path for frame in frames]
    objects.write_objects(frames, paths, given.out, given.folder, settings, tally)
    objects.print_summary(given.out, tally)
    own = {"lidar.max_range_m": _MAX_RANGE_M, "lidar.axes": "camera", "lidar.unit": "m"}
    command = output.next_command(given.out, settings.dataset, own)
    print(f"wrote {given.out}; next: {command}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command line.

    Raises:
        UserError: when they cannot be used.
    """
    parser = objects.parser(
        "kitti",
        "Cuts the labelled objects of KITTI's object data into a FiftyOne dataset.",
        "folder with image_2/, velodyne/, calib/ and label_2/, or with these in training/",
    )
    parser.add_argument(
        "--drives",
        type=Path,
        metavar="FILE",
        help="names the drive of each frame, which is then its scene: lines 'FRAME DRIVE', or the development kit's "
        "train_mapping.txt with train_rand.txt beside it (default: each frame is a scene)",
    )
    scenes.add_options(parser)
    given = parser.parse_args(arguments)
    scenes.require_options(given)
    return given


def find_root(folder: Path) -> Path:
    """The folder that contains image_2/ and the others: this one, or training/ in it."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    root = folder if (folder / "image_2").is_dir() else folder / "training"
    missing = [
        f"{name}/" for name in ("image_2", "velodyne", "calib", "label_2") if not (root / name).is_dir()
    ]
    if missing:
        shown = root if root.is_dir() else folder
        raise UserError(f"{shown}: no {', no '.join(missing)}; KITTI's object data has all four folders")
    return root


def find_frames(folder: Path, left_out: list[str]) -> dict[str, Path]:
    """The picture of each frame that has all its files; frames that miss one are listed as left out."""
    pictures: dict[str, Path] = {}
    for path in sorted((folder / "image_2").iterdir()):
        if path.suffix.lower() in _PICTURES:
            first = pictures.setdefault(path.stem, path)
            if first != path:
                left_out.append(f"{path}: {first.name} is the picture of this frame")
    others = (("velodyne", ".bin"), ("calib", ".txt"), ("label_2", ".txt"))
    found = {
        name: {path.stem for path in (folder / name).iterdir() if path.suffix == suffix}
        for name, suffix in others
    }
    complete = {}
    for frame in sorted(pictures.keys() | found["label_2"]):
        missing = [f"{name}/{frame}{suffix}" for name, suffix in others if frame not in found[name]]
        if frame not in pictures:
            missing.insert(0, f"image_2/{frame}.png")
        if missing:
            left_out.append(f"{folder}: frame {frame}: no {', no '.join(missing)}")
        else:
            complete[frame] = pictures[frame]
    return complete


def read_objects(folder: Path, frames: dict[str, Path], tally: Tally) -> dict[str, list[LabelledObject]]:
    """The objects of each frame, without DontCare regions, which the tally counts."""
    labelled = {}
    for name in console.track(frames, "reading labels", len(frames), "frame"):
        try:
            found = read_labels(folder / "label_2" / f"{name}.txt", tally.lines)
        except UserError as error:
            tally.lines.append(str(error))
            continue
        labelled[name] = [item for item in found if item.label != DONT_CARE]
        tally.objects[f"called {DONT_CARE}"] += len(found) - len(labelled[name])
    return labelled


def find_scenes(frames: dict[str, list[LabelledObject]], drives: Path | None) -> dict[str, str]:
    """The scene of each frame: its drive in the file, or the frame itself.

    Raises:
        UserError: when a frame has no drive.
    """
    if drives is None:
        return {name: name for name in frames}
    drive_of = read_drives(drives)
    without = [name for name in frames if name not in drive_of]
    if without:
        raise UserError(f"{drives}: no drive for {len(without):,} frames, such as {without[0]}")
    return {name: drive_of[name] for name in frames}
