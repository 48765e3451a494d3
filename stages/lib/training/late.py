"""Trains late fusions on the trained unimodal nets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import torch
from torch import nn

from stages.lib.core.names import SENSORS
from stages.lib.fusions.base import LateFusion
from stages.lib.models import checkpoints, devices, inference, networks
from stages.lib.models.networks import Architecture, LateNet, UnimodalNet
from stages.lib.params import Train
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split
from stages.lib.training.inputs import CachedLogits
from stages.lib.training.progress import SeedReport
from stages.lib.training.resume import Scratch
from stages.lib.training.seed import train_seed
from stages.lib.training.settings import ComputeConfig, TrainConfig, train_config
from stages.lib.training.state import TrainState


def late_config(name: str, train: Train) -> TrainConfig:
    """That of whole networks, or of heads alone where the nets are frozen."""
    recipe = train_config(train)
    if networks.load_late(name).trains_nets:
        return recipe
    return replace(recipe, epochs=train.late.epochs, learning_rate=train.late.learning_rate)


@dataclass(frozen=True)
class TrainedNets:
    """What a late fusion learns from: two trained nets, and the data that they see."""

    name: str
    sizes: Architecture
    manifest: Manifest
    tensors: Path
    models: Path

    def head(self) -> LateFusion:
        return networks.build_head(self.name, self.sizes)

    def whole(self, seed: int) -> LateNet:
        """The untrained head over the nets."""
        # The head first: its initial weights depend on the seed alone, as without the nets.
        fusion = self.head()
        return LateNet(*self.nets(seed), fusion)

    def nets(self, seed: int) -> tuple[UnimodalNet, UnimodalNet]:
        """The trained net of each sensor."""
        rgb, lidar = (checkpoints.load_network(sensor, seed, self.sizes, self.models) for sensor in SENSORS)
        assert isinstance(rgb, UnimodalNet) and isinstance(lidar, UnimodalNet)
        return rgb, lidar

    def splits(self) -> tuple[Split, Split]:
        train, validation = (Split(self.tensors, self.manifest, name) for name in ("train", "validation"))
        return train, validation

    def logits(self, seed: int, device: torch.device) -> tuple[CachedLogits, CachedLogits]:
        """Both nets' logits on the training and the validation split."""
        rgb, lidar = self.nets(seed)
        train, validation = (cache_logits(rgb, lidar, split, device) for split in self.splits())
        return train, validation


def cache_logits(rgb: nn.Module, lidar: nn.Module, split: Split, device: torch.device) -> CachedLogits:
    """What two nets say of each sample of a split."""
    of_rgb, of_lidar = (
        inference.predict(devices.place(net, device), split, batch_size=32, device=device)
        for net in (rgb, lidar)
    )
    return CachedLogits(of_rgb, of_lidar, split.labels)


def train_late_seed(
    nets: TrainedNets,
    *,
    recipe: TrainConfig,
    setting: ComputeConfig,
    files: Scratch,
    seed: int,
    tell: Callable[[SeedReport], None],
) -> TrainState:
    """One seed; over logits that are computed once, if the nets are frozen and see the same inputs each epoch."""
    how = partial(train_seed, recipe=recipe, setting=setting, files=files, seed=seed, tell=tell)
    if networks.load_late(nets.name).trains_nets or recipe.augment.is_on:
        return how(partial(nets.whole, seed), nets.splits, learner=attrgetter("trained"))
    return how(nets.head, partial(nets.logits, seed, setting.device))
