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

from stages.lib import fusions, networks, params, store, terminal
from stages.lib.store import manifest as manifests
from stages.lib.store.manifest import Manifest
from stages.lib.store.tensors import Split
from stages.lib.training import devices, runs, seeds


def main(arguments: Sequence[str]) -> None:
    name = terminal.single_argument(arguments, "the model to train, or --list")
    settings = params.load()
    if name == "--list":
        # By name: training depends on every module imported above, and is not to depend on this one.
        catalogue = importlib.import_module("stages.lib.catalogue")
        print(catalogue.listing(settings.network))
        return
    terminal.require_choice(name, [*settings.unimodal, *settings.intermediate], "model")
    is_fusion = name in settings.intermediate
    if is_fusion:
        fusions.load(name)  # so that its source is part of the scratch files' fingerprint
    manifest = manifests.load(store.FOLDER)
    sizes = runs.architecture(manifest, settings.network)
    recipe = seeds.recipe_of(settings.train, sensors=2 if is_fusion else 1)
    device = devices.choose(settings.train.device)
    devices.warn_if_slow(settings.train.precision, device)
    setting = seeds.setting_of(settings.train, device)
    files = seeds.open_scratch(name, settings.seeds, recipe, setting, networks.facts(name, sizes), manifest)
    job = partial(
        seeds.train_one,
        partial(networks.build, name, sizes),
        partial(load_splits, store.FOLDER.absolute(), manifest),
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


def load_splits(folder: Path, manifest: Manifest) -> tuple[Split, Split]:
    return Split(folder, manifest, "train"), Split(folder, manifest, "validation")


if __name__ == "__main__":
    terminal.run(main)
