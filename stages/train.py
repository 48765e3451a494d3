"""Trains one model, of a single sensor or an early or intermediate fusion, once per seed.

    python -m stages.train concatenation
    python -m stages.train --list           # lists all fusions

Reads data/tensors; writes models/NAME/, reports/history/NAME.csv and reports/timing/train-NAME.json.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stages.lib import fusions, params, training
from stages.lib.core import console
from stages.lib.models import devices, networks
from stages.lib.models.architecture import Architecture
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split
from stages.lib.training.seed import train_seed


def main(arguments: Sequence[str]) -> None:
    name = console.single_argument(arguments, "the model to train, or --list")
    settings = params.load()
    if name == "--list":
        # By name, since training depends on every module imported above, and must not depend on this one.
        fusion_docs = importlib.import_module("scripts.fusion_docs")
        print(fusion_docs.listing(settings.network))
        return
    console.require_choice(name, [*settings.unimodal, *settings.intermediate], "model")
    manifest = manifests.load(manifests.FOLDER)
    sizes = Architecture.from_settings(manifest, settings.network)
    devices.warn_if_slow(settings.train.precision, devices.choose(settings.train.device))
    training.run(
        fusions.spec(name),
        partial(
            train_seed,
            partial(networks.build, name, sizes),
            partial(load_splits, manifests.FOLDER.absolute(), manifest),
        ),
        settings,
        sizes,
        manifest,
    )


def load_splits(folder: Path, manifest: Manifest) -> tuple[Split, Split]:
    return Split(folder, manifest, "train"), Split(folder, manifest, "validation")


if __name__ == "__main__":
    console.run(main)
