"""Trains a late fusion: a small head over the frozen unimodal nets of the same seed, or all of it.

    python -m stages.train_late late

Reads data/tensors, models/rgb and models/lidar; writes the same files as stages.train, with only
the head's weights among them where the nets are frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from stages.lib import params, training
from stages.lib.core import console
from stages.lib.core.names import SENSORS
from stages.lib.models import checkpoints, devices, networks
from stages.lib.tensors import manifest as manifests
from stages.lib.training import late
from stages.lib.training.late import TrainedNets


def main(arguments: Sequence[str]) -> None:
    name = console.single_argument(arguments, "the late fusion to train")
    settings = params.load()
    console.require_choice(name, settings.late, "late fusion")
    manifest = manifests.load(manifests.FOLDER)
    sizes = checkpoints.architecture(manifest, settings.network)
    # Loaded, its source is part of the scratch files' fingerprint.
    trains_nets = networks.load_late(name).trains_nets
    recipe = late.late_config(name, settings.train)
    if recipe.augment.is_on and not trains_nets:
        console.report_line(
            f"{name}: augmentation is on, so the frozen nets see other inputs each epoch: "
            "their logits are computed anew instead of once"
        )
    if trains_nets:
        devices.warn_if_slow(settings.train.precision, devices.choose(settings.train.device))
    training.run(
        name,
        partial(
            late.train_late_seed,
            TrainedNets(name, sizes, manifest, manifests.FOLDER.absolute(), checkpoints.MODELS.absolute()),
        ),
        recipe,
        settings,
        sizes,
        manifest,
        inputs={
            seed: " ".join(checkpoints.weights_digest(sensor, seed) for sensor in SENSORS)
            for seed in settings.seeds
        },
    )


if __name__ == "__main__":
    console.run(main)
