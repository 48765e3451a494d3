"""Assigns each group of a dataset to a split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from stages.lib.core.errors import shortened
from stages.lib.core.names import SPLITS
from stages.lib.datasets.reader import DatasetGroup
from stages.lib.datasets.validation import DataChecks

# When content is in two splits, the copy in the later one of these is left out: the test split keeps its copy.
ORDER = tuple(reversed(SPLITS))


def assign(groups: list[DatasetGroup], test_fraction: float, checks: DataChecks) -> list[DatasetGroup]:
    """The groups with their final splits: the split of the tag, or "test" when a group is held out.

    Scenes are held out only when no group has the test tag. Of each class, `test_fraction` of the training scenes
    are held out (a scene counts for its first label): those whose names have the smallest hashes. So the choice does
    not depend on the order of the groups.

    Args:
        checks: receives an error for each group whose scene is in two splits; these groups are left out.
    """
    if not any(group.split == "test" for group in groups):
        held_out = _held_out_scenes(groups, test_fraction)
        groups = [
            replace(group, split="test") if group.split == "train" and group.scene in held_out else group
            for group in groups
        ]
    in_two_splits = _in_two_splits(groups, checks)
    return [group for group in groups if group.key not in in_two_splits]


def by_hash(names: Iterable[str]) -> list[str]:
    """The names in the order of their hashes: it looks random, and depends on the names only."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def _held_out_scenes(groups: list[DatasetGroup], test_fraction: float) -> set[str]:
    label_of_scene: dict[str, str] = {}
    for group in groups:
        if group.split == "train":
            label_of_scene.setdefault(group.scene, group.label)
    scenes_of_label = defaultdict(list)
    for scene, label in label_of_scene.items():
        scenes_of_label[label].append(scene)
    held_out: set[str] = set()
    for scenes in scenes_of_label.values():
        held_out.update(by_hash(scenes)[: round(test_fraction * len(scenes))])
    return held_out


def _in_two_splits(groups: list[DatasetGroup], checks: DataChecks) -> set[str]:
    """Keys of the groups whose scene is also in a split that comes earlier in ORDER."""
    first: dict[str, DatasetGroup] = {}
    found = set()
    for group in sorted(groups, key=lambda group: ORDER.index(group.split)):
        other = first.setdefault(group.scene, group)
        if group.split != other.split:
            checks.error(
                "scene in two splits",
                "",
                f"scene '{shortened(group.scene)}' is in two splits: {group.key} in {group.split}, "
                f"{other.key} in {other.split}; move its groups to one, or set dataset.scene_field to null "
                "if that field does not name scenes",
            )
            found.add(group.key)
    return found
