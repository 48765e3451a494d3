"""Trains one model, unimodal or intermediate, once per seed.

    python -m stages.train concatenation

Reads data/tensors; writes models/NAME/, reports/history/NAME.csv and reports/timing/train-NAME.json.
"""

from __future__ import annotations

import sys
from functools import partial

from stages.lib import manifest as manifests
from stages.lib import networks, params, runs, tensors, terminal
from stages.lib.manifest import Manifest
from stages.lib.tensors import Split
from stages.lib.training import choose_device


def main() -> None:
    name = terminal.single_argument(sys.argv, "the model to train")
    settings = params.load()
    terminal.require_choice(name, [*settings.unimodal, *settings.intermediate], "model")
    manifest = manifests.load(tensors.FOLDER)
    sizes = runs.architecture(manifest, settings.network)
    recipe = runs.recipe_of(settings.train)
    device = choose_device(settings.train.device)
    workers = runs.num_workers(settings.train.workers, len(settings.seeds), device)
    job = partial(
        runs.train_one,
        name,
        partial(networks.build, name, sizes),
        partial(load_splits, manifest),
        recipe=recipe,
        device=device,
        threads=settings.train.threads,
    )
    outcomes = runs.train_seeds(name, job, settings.seeds, workers=workers, epochs=recipe.epochs)
    runs.write(
        name,
        outcomes,
        story=runs.story(recipe, sizes, manifest),
        circumstances=runs.circumstances(device, workers, settings.train.threads),
    )


def load_splits(manifest: Manifest) -> tuple[Split, Split]:
    return Split(tensors.FOLDER, manifest, "train"), Split(tensors.FOLDER, manifest, "validation")


if __name__ == "__main__":
    terminal.run(main)
