"""Evaluates one trained model on the validation and the test split, for every seed.

    python -m stages.evaluate concatenation

Reads data/tensors and models/; writes reports/evaluation/NAME.json, reports/predictions/NAME.parquet
and, for what was measured with a clock, reports/timing/evaluate-NAME.json.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stages.lib import fusions, networks, params, store, terminal, training
from stages.lib.evaluation import cost, evaluations, probing
from stages.lib.evaluation import predictions as stored
from stages.lib.evaluation.evaluations import Evaluation, Probes
from stages.lib.evaluation.predictions import Predictions
from stages.lib.networks import Architecture
from stages.lib.params import Evaluate
from stages.lib.store import groups as stored_groups
from stages.lib.store import manifest as manifests
from stages.lib.store import records
from stages.lib.store.manifest import Manifest
from stages.lib.store.tensors import Split
from stages.lib.terminal import progress
from stages.lib.training import devices, runs


def main(arguments: Sequence[str]) -> None:
    name = terminal.single_argument(arguments, "the model to evaluate")
    settings = params.load()
    terminal.require_choice(name, settings.model_names(), "model")
    manifest = manifests.load(store.FOLDER)
    sizes = runs.trained_architecture(name, settings.seeds[0])
    device = devices.choose(settings.train.device)
    devices.prepare_process(torch.get_num_threads())
    predictions = predict_splits(name, settings.seeds, manifest, sizes, settings.evaluate.batch_size, device)
    stored.write(name, predictions)
    probes = probe_seeds(name, settings.seeds, manifest, sizes, settings.evaluate, device)
    network = runs.load_network(name, settings.seeds[0], sizes)
    evaluations.write(
        Evaluation(
            model=name,
            kind="unimodal" if name in params.SENSORS else fusions.kind(name),
            cost=cost.count(network, networks.sized(name, sizes)),
            seeds=stored.measure_seeds(predictions),
            probes=probes,
        )
    )
    latency = cost.latency(network, sizes, device, threads=settings.train.threads)
    records.write_timing(f"evaluate-{name}", {"model": name, **latency})


def predict_splits(
    name: str,
    seeds: list[int],
    manifest: Manifest,
    sizes: Architecture,
    batch_size: int,
    device: torch.device,
) -> list[Predictions]:
    """Logits of every seed's model on every sample of the splits that are not trained on."""
    predictions = []
    for split_name in [split for split in manifest.splits() if split != "train"]:
        split = Split(store.FOLDER, manifest, split_name)
        groups = stored_groups.read(store.FOLDER, split_name)
        for seed in progress.track(seeds, f"{name} on {split_name}", len(seeds), "seed"):
            network = devices.place(runs.load_network(name, seed, sizes), device)
            logits = training.predict(network, split, batch_size, device)
            predictions.append(Predictions(seed, split_name, groups, logits.numpy()))
    return predictions


def probe_seeds(
    name: str,
    seeds: list[int],
    manifest: Manifest,
    sizes: Architecture,
    settings: Evaluate,
    device: torch.device,
) -> dict[int, Probes]:
    """What every seed's model makes of missing, shuffled and corrupted sensors."""
    split = Split(store.FOLDER, manifest, "test" if manifest.has_test_split else "validation")
    blanks = probing.blanks(settings.missing, Split(store.FOLDER, manifest, "train"))
    by_seed = {seed: devices.place(runs.load_network(name, seed, sizes), device) for seed in seeds}
    return probing.probe(by_seed, split, settings, blanks, device, f"{name} with corrupted sensors")


if __name__ == "__main__":
    terminal.run(main)
