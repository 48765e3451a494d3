"""The part of the training split that a seed trains on.

N = samples of the split;  B = batch
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from stages.lib.models.inference import Inputs
from stages.lib.tensors.groups import CachedGroup


def draw(groups: Sequence[CachedGroup], share: float, seed: int) -> list[int]:
    """Positions of the groups in a random share of the scenes, in order.

    The draw depends on the seed alone, so it is the same for every model; a smaller share is part of a larger one.
    Scenes that show the same classes form a stratum, and each stratum gives the same share, but at least one scene.
    """
    labels: dict[str, set[int]] = defaultdict(set)
    for group in groups:
        labels[group.scene].add(group.label)
    strata: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for scene in sorted(labels):
        strata[tuple(sorted(labels[scene]))].append(scene)
    generator = np.random.default_rng(seed)
    drawn: set[str] = set()
    for _, scenes in sorted(strata.items()):
        order = generator.permutation(len(scenes))
        drawn.update(scenes[place] for place in order[: max(1, round(share * len(scenes)))])
    return [position for position, group in enumerate(groups) if group.scene in drawn]


class Subsample:
    """Some samples of other inputs."""

    def __init__(self, inputs: Inputs, positions: Sequence[int]) -> None:
        self._inputs, self._positions = inputs, list(positions)
        self.labels: Int[Tensor, "n"] = inputs.labels[self._positions]

    def __len__(self) -> int:
        return len(self._positions)

    def to(self, device: torch.device) -> Subsample:
        return Subsample(self._inputs.to(device), self._positions)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self._inputs.batch([self._positions[index] for index in indices])

    def absent(self) -> tuple[Tensor, Tensor]:
        return self._inputs.absent()
