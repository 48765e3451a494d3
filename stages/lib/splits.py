"""Which split each group belongs to."""

from __future__ import annotations

import hashlib
from collections import defaultdict

from stages.lib.datasets import Group
from stages.lib.terminal import UserError


def assign(groups: list[Group], test_fraction: float) -> dict[str, str]:
    """The split of each group by key: its tag's, or "test" when it is held out.

    Scenes are held out only when no group carries the test tag: `test_fraction` of the training
    scenes of each class (a scene counts for its first label), those with the least hash of their
    name. So the choice depends neither on the order of the groups nor on other scenes.

    Raises:
        UserError: when a scene lies in two splits.
    """
    split_of = {group.key: group.split for group in groups}
    if not any(split == "test" for split in split_of.values()):
        held_out = _held_out_scenes(groups, test_fraction)
        for group in groups:
            if group.split == "train" and group.scene in held_out:
                split_of[group.key] = "test"
    _refuse_straddling_scenes(groups, split_of)
    return split_of


def _held_out_scenes(groups: list[Group], test_fraction: float) -> set[str]:
    label_of_scene: dict[str, str] = {}
    for group in groups:
        if group.split == "train":
            label_of_scene.setdefault(group.scene, group.label)
    scenes_of_label = defaultdict(list)
    for scene, label in label_of_scene.items():
        scenes_of_label[label].append(scene)
    held_out: set[str] = set()
    for scenes in scenes_of_label.values():
        by_hash = sorted(scenes, key=lambda scene: hashlib.sha256(scene.encode()).digest())
        held_out.update(by_hash[: round(test_fraction * len(scenes))])
    return held_out


def _refuse_straddling_scenes(groups: list[Group], split_of: dict[str, str]) -> None:
    first: dict[str, Group] = {}
    for group in groups:
        other = first.setdefault(group.scene, group)
        if split_of[group.key] != split_of[other.key]:
            raise UserError(
                f"scene '{group.scene}' is in two splits: {other.key} in {split_of[other.key]}, "
                f"{group.key} in {split_of[group.key]}; move its groups to one, or set "
                "dataset.scene_field to null if that field does not name scenes"
            )
