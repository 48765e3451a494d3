"""Trains one model, of a single sensor or an early or intermediate fusion, once per seed.

    python -m stages.train concatenation
    python -m stages.train --list           # all fusions that there are

Reads data/tensors; writes models/NAME/, reports/history/NAME.csv and reports/timing/train-NAME.json.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stages.lib import fusions, params, training
from stages.lib.core import console
from stages.lib.models import checkpoints, devices, networks
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split
from stages.lib.training.seed import train_seed
from stages.lib.training.settings import train_config


def main(arguments: Sequence[str]) -> None:
    name = console.single_argument(arguments, "the model to train, or --list")
    settings = params.load()
    if name == "--list":
        # By name: training depends on every module imported above, and is not to depend on this one.
        fusion_docs = importlib.import_module("scripts.fusion_docs")
        print(fusion_docs.listing(settings.network))
        return
    console.require_choice(name, [*settings.unimodal, *settings.intermediate], "model")
    is_fusion = name in settings.intermediate
    if is_fusion:
        fusions.load(name)  # so that its source is part of the scratch files' fingerprint
    manifest = manifests.load(manifests.FOLDER)
    sizes = checkpoints.architecture(manifest, settings.network)
    devices.warn_if_slow(settings.train.precision, devices.choose(settings.train.device))
    training.run(
        name,
        partial(
            train_seed,
            partial(networks.build, name, sizes),
            partial(load_splits, manifests.FOLDER.absolute(), manifest),
        ),
        train_config(settings.train, sensors=2 if is_fusion else 1),
        settings,
        sizes,
        manifest,
    )


def load_splits(folder: Path, manifest: Manifest) -> tuple[Split, Split]:
    return Split(folder, manifest, "train"), Split(folder, manifest, "validation")


if __name__ == "__main__":
    console.run(main)
