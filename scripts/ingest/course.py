"""Converts raw folders as the course's into a FiftyOne dataset, which the pipeline can read without other settings.

    python -m scripts.ingest RAW OUT

RAW contains a folder for each class, with images in its rgb/, range images in metres (.npy) in its lidar/, and
azimuth.npy and zenith.npy (radians) beside these two or in a folder above. More levels of folders are allowed.
An image and a scan form a pair if their file names are equal without suffix; the order of the files does not matter.
A file that matches no other file, or several, is left out and listed.
"""

from __future__ import annotations

import itertools
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from scripts.ingest import output
from stages.lib import params
from stages.lib.core import console
from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.datasets import splits
from stages.lib.datasets.writer import NewGroup, write
from stages.lib.export import images
from stages.lib.lidar import depth_image, formats, readers
from stages.lib.lidar.formats import Angles
from stages.lib.params import Params

_IMAGES = (".png", ".jpg", ".jpeg")
_SCANS = (".npy",)
_ANGLES = ("azimuth", "zenith")
# Shares of the scenes, at least one scene each; all others are for training.
_SHARES = {"test": 0.15, "validation": 0.15}


@dataclass(frozen=True)
class Pair:
    """An image and a scan of the same name."""

    label: str
    stem: str
    image_path: Path
    scan_path: Path
    angles: Angles


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2:
        raise UserError(
            "usage: python -m scripts.ingest RAW OUT, or with kitti FOLDER OUT or detections FOLDER OUT instead"
        )
    raw, out = map(Path, arguments)
    output.require_new(out)
    settings = params.load()
    pairs, left_out = find_pairs(raw, settings.export.max_pixels)
    split_of = assign_splits(pairs)
    with output.new_folder(out) as folder:
        counts = Counter[tuple[str, str]]()
        groups = convert(pairs, split_of, folder, settings, left_out, counts)
        first = next(groups, None)
        if first is None:
            raise UserError(f"{raw}: no pair is readable; the first one: {left_out[0]}")
        shown = console.track(itertools.chain([first], groups), "converting", len(pairs), "pair")
        write(folder, out.name, shown, seed=0, info=angles_by_class(pairs))
        output.require_usable(counts, raw)
        output.write_left_out(folder, left_out)
    output.print_summary(out, left_out, counts, "files")
    print(f"wrote {out}; next: dvc exp run -S dataset.path={out} headline report")


def find_pairs(raw: Path, max_pixels: int) -> tuple[list[Pair], list[str]]:
    """All pairs in the order of class and name, and a line about each file that belongs to no pair."""
    if not raw.is_dir():
        raise UserError(f"{raw}: no such folder")
    pairs: list[Pair] = []
    left_out: list[str] = []
    folders = class_folders(raw)
    for label, folder in folders.items():
        angles = formats.find_angles({}, raw, folder / "lidar" / "any.npy", label, max_pixels)
        rgb = by_stem(folder / "rgb", _IMAGES, left_out)
        scans_of = by_stem(folder / "lidar", _SCANS, left_out)
        for stem in sorted(rgb.keys() | scans_of.keys()):
            found = [*rgb[stem], *scans_of[stem]]
            if len(rgb[stem]) == len(scans_of[stem]) == 1:
                image_path, scan_path = found
                own = angles or formats.find_angles({}, raw, scan_path, label, max_pixels)
                if own is None:
                    raise UserError(
                        f"{folder}: no azimuth.npy and zenith.npy here, in a folder above or in lidar/"
                    )
                pairs.append(Pair(label, stem, image_path, scan_path, own))
                continue
            if not (rgb[stem] and scans_of[stem]):
                reason = f"no {'scan' if rgb[stem] else 'image'} of this name"
            else:
                reason = f"{len(rgb[stem])} images and {len(scans_of[stem])} scans of this name"
            left_out += [f"{path}: {reason}" for path in found]
    left_out += strays(raw, folders)
    if len({pair.label for pair in pairs}) < 2:
        raise UserError(
            f"{raw}: fewer than two classes have an image and a scan of the same name; "
            f"{len(left_out):,} files have no counterpart, such as {', '.join(left_out[:3]) or 'none'}"
        )
    return pairs, left_out


def class_folders(raw: Path) -> dict[str, Path]:
    """The folders with images and scans, by class; a class has the name of its folder."""
    folders: dict[str, Path] = {}
    for rgb in sorted(raw.rglob("rgb")):
        folder = rgb.parent
        if not (rgb.is_dir() and (folder / "lidar").is_dir()):
            continue
        if folder.name in folders:
            raise UserError(
                f"{raw}: two folders of class '{folder.name}': {folders[folder.name]} and {folder}"
            )
        folders[folder.name] = folder
    if not folders:
        raise UserError(f"{raw}: no folder with rgb/ and lidar/ in it, such as {raw / 'cubes'}")
    return folders


def strays(raw: Path, folders: dict[str, Path]) -> list[str]:
    """A line about each file that lies outside all rgb/ and lidar/ folders and contains no angles."""
    owned = [folder / name for folder in folders.values() for name in SENSORS]
    return [
        f"{path}: not in rgb/ or lidar/ of a class; a class is a folder with both"
        for path in sorted(raw.rglob("*"))
        if path.is_file()
        and not path.name.startswith(".")
        and not (path.stem in _ANGLES and path.suffix in _SCANS)
        and not any(folder in path.parents for folder in owned)
    ]


def by_stem(folder: Path, suffixes: tuple[str, ...], left_out: list[str]) -> defaultdict[str, list[Path]]:
    """Files in the folder and below, by name without suffix; files with other suffixes are listed as left out."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name.startswith(".") or (path.stem in _ANGLES and path.suffix in _SCANS):
            continue
        if path.suffix.lower() in suffixes:
            found[path.stem].append(path)
        else:
            left_out.append(f"{path}: none of {', '.join(suffixes)}")
    return found


def assign_splits(pairs: list[Pair]) -> dict[str, str]:
    """The split of each file name: by its hash, and stratified by the classes that have a file of this name.

    In the course's data, files of the same name show the same scene, first with a cube and then with a sphere; so
    they get the same split.
    """
    labels_of = defaultdict(list)
    for pair in pairs:
        labels_of[pair.stem].append(pair.label)
    stems_of = defaultdict(list)
    for stem, labels in labels_of.items():
        stems_of[tuple(labels)].append(stem)
    split_of = {}
    for stems in stems_of.values():
        rest = splits.by_hash(stems)
        for split, share in _SHARES.items():
            count = max(1, round(share * len(stems))) if len(stems) >= 3 else 0
            split_of.update(dict.fromkeys(rest[:count], split))
            rest = rest[count:]
        split_of.update(dict.fromkeys(rest, "train"))
    return split_of


def convert(
    pairs: list[Pair],
    split_of: dict[str, str],
    folder: Path,
    settings: Params,
    left_out: list[str],
    counts: Counter[tuple[str, str]],
) -> Iterator[NewGroup]:
    """Copies each image and converts each scan to a raster; unreadable pairs are left out and listed.

    Args:
        counts: number of groups by class and split, which this function increases.
    """
    for pair in pairs:
        try:
            range_m = readers.read_npy(pair.scan_path, settings.export.max_pixels)
            raster = formats.from_range(
                range_m, pair.angles, settings.dataset.lidar.max_range_m, str(pair.scan_path)
            )
            images.read_image(pair.image_path, settings.export.image_size, settings.export.max_pixels)
        except UserError as error:
            left_out += [f"{pair.image_path}: unreadable pair", f"{pair.scan_path}: unreadable pair; {error}"]
            continue
        files = {
            "rgb": folder / "data" / pair.label / f"{pair.stem}{pair.image_path.suffix.lower()}",
            "lidar_img": folder / "depth" / pair.label / f"{pair.stem}.png",
        }
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pair.image_path, files["rgb"])
        Image.fromarray(depth_image.from_raster(raster)).save(files["lidar_img"])
        split = split_of[pair.stem]
        counts[pair.label, split] += 1
        yield NewGroup(pair.stem, pair.label, split, files, raster)


def angles_by_class(pairs: list[Pair]) -> dict[str, list[float]]:
    """The angles in the form of the dataset's info."""
    info = {}
    for pair in pairs:
        info[f"azimuth_{pair.label}"] = pair.angles.azimuth_rad.tolist()
        info[f"zenith_{pair.label}"] = pair.angles.zenith_rad.tolist()
    return info
