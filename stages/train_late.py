"""Trains a late fusion: a small head over the frozen unimodal nets of the same seed, or all of it.

    python -m stages.train_late late

Reads data/tensors, models/rgb and models/lidar; writes the same files as stages.train, with only
the head's weights among them where the nets are frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import torch
from torch import nn

from stages.lib import networks, params, store, terminal, training
from stages.lib.networks import Architecture, LateNet, UnimodalNet
from stages.lib.networks.operators import LateFusion
from stages.lib.params import SENSORS, Train
from stages.lib.store import manifest as manifests
from stages.lib.store.manifest import Manifest
from stages.lib.store.tensors import Split
from stages.lib.terminal.progress import Report
from stages.lib.training import CachedLogits, Recipe, Run, devices, runs, seeds
from stages.lib.training.scratch import Scratch
from stages.lib.training.seeds import Setting


def main(arguments: Sequence[str]) -> None:
    name = terminal.single_argument(arguments, "the late fusion to train")
    settings = params.load()
    terminal.require_choice(name, settings.late, "late fusion")
    manifest = manifests.load(store.FOLDER)
    sizes = runs.architecture(manifest, settings.network)
    # Loaded, its source is part of the scratch files' fingerprint.
    trains_nets = networks.load_late(name).trains_nets
    recipe = recipe_for(name, settings.train)
    if recipe.augment.is_on and not trains_nets:
        terminal.report_line(
            f"{name}: augmentation is on, so the frozen nets see other inputs each epoch: "
            "their logits are computed anew instead of once"
        )
    device = devices.choose(settings.train.device)
    if trains_nets:
        devices.warn_if_slow(settings.train.precision, device)
    setting = seeds.setting_of(settings.train, device)
    nets = {
        seed: " ".join(runs.weights_digest(sensor, seed) for sensor in SENSORS) for seed in settings.seeds
    }
    files = seeds.open_scratch(
        name, settings.seeds, recipe, setting, networks.facts(name, sizes), manifest, inputs=nets
    )
    job = partial(
        train_seed,
        TrainedNets(name, sizes, manifest, store.FOLDER.absolute(), runs.MODELS.absolute()),
        recipe=recipe,
        setting=setting,
        files=files,
    )
    workers = seeds.chosen(settings.train, len(settings.seeds), device)
    outcomes = seeds.train(name, job, settings.seeds, workers)
    runs.write(
        name,
        outcomes,
        files.weights_path,
        story=runs.story(name, recipe, sizes, manifest),
        circumstances=runs.circumstances(device, workers.count, workers.threads, workers.backend),
    )
    files.complete(settings.seeds)


def recipe_for(name: str, train: Train) -> Recipe:
    """That of whole networks, or of heads alone where the nets are frozen."""
    recipe = seeds.recipe_of(train)
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
        rgb, lidar = (runs.load_network(sensor, seed, self.sizes, self.models) for sensor in SENSORS)
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
        training.predict(devices.place(net, device), split, batch_size=32, device=device)
        for net in (rgb, lidar)
    )
    return CachedLogits(of_rgb, of_lidar, split.labels)


def train_seed(
    nets: TrainedNets,
    *,
    recipe: Recipe,
    setting: Setting,
    files: Scratch,
    seed: int,
    tell: Callable[[Report], None],
) -> Run:
    """One seed; over logits that are computed once, if the nets are frozen and see the same inputs each epoch."""
    how = partial(seeds.train_one, recipe=recipe, setting=setting, files=files, seed=seed, tell=tell)
    if networks.load_late(nets.name).trains_nets or recipe.augment.is_on:
        return how(partial(nets.whole, seed), nets.splits, learner=attrgetter("trained"))
    return how(nets.head, partial(nets.logits, seed, setting.device))


if __name__ == "__main__":
    terminal.run(main)
