"""Misalignment in time: a group's image with the scan of an earlier group of the same scene and class.

Scenes are taken as recorded in the order of their groups' keys, numbers in keys by their value. Groups of another
class show something else, not the same thing at another time, so they count as no neighbours.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from stages.lib.tensors.groups import CachedGroup

NAME = "late_scan"


def tracks(groups: Sequence[CachedGroup]) -> list[list[int]]:
    """Indices of the groups that share scene and class with another group, in their order; a list for each pair."""
    members = defaultdict(list)
    for index in sorted(range(len(groups)), key=lambda index: _order(groups[index].group)):
        members[groups[index].scene, groups[index].label].append(index)
    return [track for track in members.values() if len(track) > 1]


def sources(tracks: Sequence[Sequence[int]], frames: int) -> dict[int, int]:
    """By group, the one whose scan it gets: so many frames earlier, or later where the scene has no earlier frame.

    In a shorter scene it is the group at the farther end.
    """
    found = {}
    for track in tracks:
        last = len(track) - 1
        for place, index in enumerate(track):
            if place >= frames:
                other = place - frames
            elif place + frames <= last:
                other = place + frames
            else:
                other = 0 if place > last - place else last
            found[index] = track[other]
    return found


def _order(key: str) -> list[tuple[int, str]]:
    """Sorts numbers within keys by their value."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", key)]
