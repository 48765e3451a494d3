"""Trains a late fusion: a small head over the frozen unimodal nets of the same seed.

    python -m stages.train_late late

Reads data/tensors, models/rgb and models/lidar; writes the same files as stages.train, with only
the head's weights among them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from stages.lib import manifest as manifests
from stages.lib import networks, params, runs, tensors, terminal, training
from stages.lib.manifest import Manifest
from stages.lib.networks import Architecture
from stages.lib.tensors import Split
from stages.lib.training import CachedLogits, Outcome, Recipe


def main() -> None:
    name = terminal.single_argument(sys.argv, "the late fusion to train")
    settings = params.load()
    terminal.require_choice(name, settings.late, "late fusion")
    manifest = manifests.load(tensors.FOLDER)
    sizes = runs.architecture(manifest, settings.network)
    late = settings.train.late
    recipe = replace(runs.recipe_of(settings.train), epochs=late.epochs, learning_rate=late.learning_rate)
    device = training.choose_device(settings.train.device)
    workers = runs.num_workers(settings.train.workers, len(settings.seeds), device)
    job = partial(train_head, name, manifest, sizes, recipe, device, settings.train.threads)
    outcomes = runs.train_seeds(name, job, settings.seeds, workers=workers, epochs=recipe.epochs)
    runs.write(
        name,
        outcomes,
        story=runs.story(recipe, sizes, manifest),
        circumstances=runs.circumstances(device, workers, settings.train.threads),
    )


def train_head(
    name: str,
    manifest: Manifest,
    sizes: Architecture,
    recipe: Recipe,
    device: torch.device,
    threads: int,
    *,
    seed: int,
    tell: Callable[[str], None],
) -> Outcome:
    return runs.train_one(
        name,
        partial(networks.build_head, name, sizes),
        partial(frozen_logits, manifest, sizes, seed, device),
        recipe=recipe,
        seed=seed,
        device=device,
        threads=threads,
        tell=tell,
    )


def frozen_logits(
    manifest: Manifest, sizes: Architecture, seed: int, device: torch.device
) -> tuple[CachedLogits, CachedLogits]:
    """Both unimodal nets' logits on the training and the validation split."""
    nets = [runs.load_network(sensor, seed, sizes).to(device) for sensor in ("rgb", "lidar")]
    cached = []
    for split_name in ("train", "validation"):
        split = Split(tensors.FOLDER, manifest, split_name)
        rgb, lidar = (training.predict(net, split, batch_size=128, device=device) for net in nets)
        cached.append(CachedLogits(rgb, lidar, split.labels))
    return cached[0], cached[1]


if __name__ == "__main__":
    terminal.run(main)
