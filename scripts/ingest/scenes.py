"""Assigns scenes to splits: by lists in files, or by shares of the scenes.

A scene is in one split only, since neighbouring frames of a drive are near-copies.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.ingest.text_files import read_lines
from stages.lib.core.errors import UserError, shortened
from stages.lib.core.names import SPLITS
from stages.lib.datasets import splits

_SHARES = (0.7, 0.15, 0.15)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that both forms of detection data have."""
    parser.add_argument(
        "--lists",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="names of frames or scenes, one a line: for training, for validation and, if given, for testing; others "
        "are left out",
    )
    parser.add_argument(
        "--shares",
        nargs=3,
        type=float,
        default=_SHARES,
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="without lists: shares of the scenes (default: 0.7 0.15 0.15)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed assigns other scenes (default: 0)")
    parser.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="cut objects of these classes only (default: all)"
    )


def require_options(given: argparse.Namespace) -> None:
    """Raises UserError when lists or shares cannot be used."""
    if given.lists is not None and len(given.lists) not in (2, 3):
        raise UserError("--lists: two files (training, validation) or three (and testing) are needed")
    train, validation, test = given.shares
    if not (min(train, validation) > 0 and test >= 0 and math.isfinite(train + validation + test)):
        raise UserError("--shares: three numbers; those for training and validation must be positive")


def assign(
    labels: Mapping[str, set[str]], scene_of: Mapping[str, str], given: argparse.Namespace
) -> dict[str, str]:
    """The split of each frame; a frame in no list has none.

    Args:
        labels: the classes of each frame's objects.
        scene_of: the scene of each frame.
        given: the options of `add_options`.
    """
    if given.lists is not None:
        return _by_lists(scene_of, given.lists)
    labels_of_scene: defaultdict[str, set[str]] = defaultdict(set)
    for frame, scene in scene_of.items():
        labels_of_scene[scene] |= labels[frame]
    split_of = by_shares(labels_of_scene, given.shares, given.seed)
    return {frame: split_of[scene] for frame, scene in scene_of.items()}


def by_shares(labels: Mapping[str, set[str]], shares: Sequence[float], seed: int) -> dict[str, str]:
    """The split of each scene: by its hash, and stratified by the rarest class in it.

    One scene after another goes to the split that lags most behind its share. So each split has its share of the
    scenes with rare classes, too.

    Args:
        labels: the classes in each scene.
        shares: of the splits; they are scaled so that their sum is one.
    """
    num_scenes = Counter(label for of_scene in labels.values() for label in of_scene)
    prefix = f"{seed} "
    hashed = [name.removeprefix(prefix) for name in splits.by_hash(prefix + scene for scene in labels)]
    # Sorting keeps the order of the hashes within a class.
    ordered = sorted(hashed, key=lambda scene: min((num_scenes[label], label) for label in labels[scene]))
    counts = dict.fromkeys(SPLITS, 0)
    split_of = {}
    for number, scene in enumerate(ordered, 1):
        lags = {
            split: number * share / sum(shares) - counts[split]
            for split, share in zip(SPLITS, shares, strict=True)
        }
        split = max(lags, key=lambda split: lags[split])
        counts[split] += 1
        split_of[scene] = split
    return split_of


def _by_lists(scene_of: Mapping[str, str], lists: list[Path]) -> dict[str, str]:
    """The split of each frame whose name, or whose scene's name, is in a list.

    Raises:
        UserError: when a scene is in two splits, or a list names nothing that is there.
    """
    frames_of: defaultdict[str, set[str]] = defaultdict(set)
    for frame, scene in scene_of.items():
        frames_of[frame].add(frame)
        frames_of[scene].add(frame)
    split_of: dict[str, str] = {}
    first: dict[str, tuple[str, str]] = {}  # split and place of a scene
    for split, path in zip(SPLITS, lists, strict=False):
        lines = read_lines(path)
        if frames_of and frames_of.keys().isdisjoint(line.strip() for line in lines):
            raise UserError(
                f"{path}: no line is the name of a frame or scene with objects, such as {shortened(min(frames_of))}"
            )
        for number, line in enumerate(lines, 1):
            name = line.strip()
            if not name:
                continue
            place = f"{path}:{number}"
            for frame in frames_of.get(name, ()):
                other, other_place = first.setdefault(scene_of[frame], (split, place))
                if other != split:
                    raise UserError(
                        f"{place}: scene '{shortened(scene_of[frame])}' is for {split} here, but for {other} at "
                        f"{other_place}; all frames of a scene need the same split"
                    )
                split_of[frame] = split
    return split_of
