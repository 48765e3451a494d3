"""Evaluates one trained model on the validation and the test split, for every seed.

    python -m stages.evaluate concatenation

Reads data/tensors and models/; writes reports/evaluation/NAME.json, reports/predictions/NAME.parquet
and, for what was measured with a clock, reports/timing/evaluate-NAME.json. The sensors' own models leave
data/logits/NAME.safetensors besides, which the evaluation of late fusions reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

import torch

from stages.lib import fusions, params
from stages.lib.core import console, names
from stages.lib.evaluation import cost, results, robustness, sensor_logits, states
from stages.lib.evaluation import predictions as stored
from stages.lib.evaluation.predictions import Predictions
from stages.lib.evaluation.results import Evaluation, Probes
from stages.lib.evaluation.robustness import TrainedModel
from stages.lib.evaluation.states import Data, Features, State
from stages.lib.models import checkpoints, devices, networks, records
from stages.lib.models.networks import FusionNet
from stages.lib.params import Evaluate
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split


def main(arguments: Sequence[str]) -> None:
    name = console.single_argument(arguments, "the model to evaluate")
    settings = params.load()
    console.require_choice(name, settings.model_names(), "model")
    manifest = manifests.load(manifests.FOLDER)
    sizes = checkpoints.trained_architecture(name, settings.seeds[0])
    device = devices.choose(settings.train.device)
    devices.prepare_process(torch.get_num_threads())
    nets = {
        seed: devices.place(checkpoints.load_network(name, seed, sizes), device) for seed in settings.seeds
    }
    data = load_data(manifest, settings.evaluate)
    with robustness.thread_pool(device) as pool:
        predictions, probes = evaluate(name, nets, data, device, pool)
    stored.write(name, predictions)
    network = devices.place(nets[settings.seeds[0]], torch.device("cpu"))
    results.write(
        Evaluation(
            model=name,
            kind="unimodal" if name in names.SENSORS else fusions.kind(name),
            cost=cost.count(network, networks.sized(name, sizes)),
            seeds=stored.measure_seeds(predictions),
            probes=probes,
        )
    )
    latency = cost.latency(network, sizes, device, threads=settings.train.threads)
    records.write_timing(f"evaluate-{name}", {"model": name, **latency})


def load_data(manifest: Manifest, settings: Evaluate) -> Data:
    """What models are evaluated on: all splits but that which they are trained on."""
    train, *others = (Split(manifests.FOLDER, manifest, name) for name in manifest.splits())
    return Data(
        splits=dict(zip(manifest.splits()[1:], others, strict=True)),
        probed="test" if manifest.has_test_split else "validation",
        blanks=states.missing_inputs(settings.missing, train),
        settings=settings,
    )


def evaluate(
    name: str, nets: dict[int, FusionNet], data: Data, device: torch.device, pool: Executor
) -> tuple[list[Predictions], dict[int, Probes]]:
    """Logits of every seed's model on every sample, and what it makes of missing, shuffled and corrupted sensors."""
    subject = TrainedModel(nets, *views(name, nets, data, device, pool), pool)
    predictions, probes = [], {}
    for split in data.splits:
        groups = stored_groups.read(manifests.FOLDER, split)
        clean = subject.clean(split)
        for seed, logits in subject.logits(clean, data.settings.batch_size).items():
            predictions.append(Predictions(seed, split, groups, logits.numpy()))
        if split == data.probed:
            probes = robustness.measure_robustness(subject, data, clean, f"{name} with corrupted sensors")
    return predictions, probes


def views(
    name: str, nets: dict[int, FusionNet], data: Data, device: torch.device, pool: Executor
) -> tuple[tuple[str, ...], Callable[[State], Features]]:
    """The sensors that a model sees, and what gives the features of their states.

    Those of a unimodal net are its logits. They are kept, and a late fusion over frozen nets takes them from there.
    """
    compute = partial(states.features, nets, data, device)
    if name in names.SENSORS:
        own = data.states(name)
        computed = console.track(pool.map(compute, own), f"{name} on all states", len(own), "state")
        logits = dict(zip(own, computed, strict=True))
        sensor_logits.write(name, logits, {seed: checkpoints.weights_digest(name, seed) for seed in nets})
        return (name,), logits.__getitem__
    if fusions.kind(name) == "late" and not networks.load_late(name).trains_nets:
        read: dict[State, Features] = {}
        for sensor in names.SENSORS:
            digests = {seed: checkpoints.weights_digest(sensor, seed) for seed in nets}
            read |= sensor_logits.read(sensor, data.states(sensor), digests, device)
        return names.SENSORS, read.__getitem__
    return names.SENSORS, compute


if __name__ == "__main__":
    console.run(main)
