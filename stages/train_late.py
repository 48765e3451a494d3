"""Trains a late fusion: a small head over the frozen unimodal networks of the same seed, or head and networks.

    python -m stages.train_late late

Reads data/tensors, models/rgb and models/lidar; writes the same files as stages.train. Where the networks are
frozen, the weights among them are those of the head alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from stages.lib import fusions, params, training
from stages.lib.core import console
from stages.lib.core.names import SENSORS
from stages.lib.models import checkpoints, devices
from stages.lib.models.architecture import Architecture
from stages.lib.tensors import manifest as manifests
from stages.lib.training.late import TrainedNets, train_late_seed


def main(arguments: Sequence[str]) -> None:
    name = console.single_argument(arguments, "the late fusion to train")
    settings = params.load()
    console.require_choice(name, settings.late, "late fusion")
    manifest = manifests.load(manifests.FOLDER)
    spec = fusions.spec(name)
    sizes = Architecture.from_settings(manifest, settings.network)
    if not spec.has_frozen_nets:
        devices.warn_if_slow(settings.train.precision, devices.choose(settings.train.device))
    nets = TrainedNets(spec, sizes, manifest, manifests.FOLDER.absolute(), checkpoints.MODELS.absolute())
    training.run(
        spec,
        partial(train_late_seed, nets),
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
