"""Evaluates one trained model on the validation and the test split, for every seed.

    python -m stages.evaluate concatenation

Reads data/tensors and models/; writes reports/evaluation/NAME.json, reports/predictions/NAME.parquet,
reports/decisions/NAME.parquet and, for measured times, reports/timing/evaluate-NAME.json. Unimodal models
also write data/logits/NAME.safetensors, which the evaluation of late fusions reads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from functools import partial

import torch

from stages.lib import fusions, params
from stages.lib.core import console
from stages.lib.evaluation import cost, decisions, results, robustness, sensor_logits, sensor_states
from stages.lib.evaluation import predictions as stored
from stages.lib.evaluation.decisions import Decisions
from stages.lib.evaluation.metrics import Metrics
from stages.lib.evaluation.predictions import Predictions
from stages.lib.evaluation.results import Evaluation, Probes
from stages.lib.evaluation.robustness import TrainedModel
from stages.lib.evaluation.sensor_states import EvaluationData, Features, SensorState
from stages.lib.fusions import ModelSpec
from stages.lib.models import checkpoints, devices, records
from stages.lib.models.architecture import Architecture
from stages.lib.models.networks import FusionNet
from stages.lib.params import Evaluate, Track
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split


def main(arguments: Sequence[str]) -> None:
    name = console.single_argument(arguments, "the model to evaluate")
    settings = params.load()
    console.require_choice(name, settings.model_names(), "model")
    manifest = manifests.load(manifests.FOLDER)
    spec = fusions.spec(name)
    sizes = checkpoints.trained_architecture(name, settings.seeds[0])
    device = devices.choose(settings.train.device)
    devices.prepare_process(torch.get_num_threads())
    nets = load_networks(spec, settings.seeds, sizes, device)
    data = load_data(manifest, settings.evaluate)
    with robustness.thread_pool(device) as pool:
        predictions, probes, decided = evaluate(spec, nets, data, device, pool)
    stored.write(name, predictions)
    decisions.write(name, decided)
    measured = stored.measure_seeds(predictions, data.class_shares)
    network = devices.place(nets[settings.seeds[0]], torch.device("cpu"))
    results.write(
        Evaluation(
            model=name,
            kind=spec.kind,
            cost=cost.count(network, sizes),
            seeds=measured,
            probes=probes,
        )
    )
    latency = cost.latency(network, sizes, device, threads=settings.train.threads)
    records.write_timing(f"evaluate-{name}", {"model": name, **latency})
    track(name, measured, settings.track)


def load_networks(
    spec: ModelSpec, seeds: list[int], sizes: Architecture, device: torch.device
) -> dict[int, FusionNet]:
    """Every seed's network. Over frozen networks only the first seed's is whole: evaluation knows their logits."""
    first, *others = seeds
    nets = {first: devices.place(checkpoints.load_network(spec.name, first, sizes), device)}
    for seed in others:
        nets[seed] = checkpoints.load_network(spec.name, seed, sizes, with_frozen_nets=False)
        devices.place(nets[seed].own_weights, device)
    return nets


def load_data(manifest: Manifest, settings: Evaluate) -> EvaluationData:
    """The data on which models are evaluated: all splits but the training split."""
    train, *others = (Split(manifests.FOLDER, manifest, name) for name in manifest.splits())
    robustness_split = "test" if manifest.has_test_split else "validation"
    return EvaluationData(
        splits=dict(zip(manifest.splits()[1:], others, strict=True)),
        robustness_split=robustness_split,
        groups=stored_groups.read(manifests.FOLDER, robustness_split),
        missing=sensor_states.missing_inputs(settings.missing, train),
        class_shares=manifest.class_shares,
        settings=settings,
        beams_are_columns=sensor_states.beams_are_columns(manifest),
    )


def evaluate(
    spec: ModelSpec, nets: dict[int, FusionNet], data: EvaluationData, device: torch.device, pool: Executor
) -> tuple[list[Predictions], dict[int, Probes], Decisions]:
    """Predictions of every seed's model; its accuracy and decisions with sensors missing, shuffled or corrupted."""
    model = TrainedModel(nets, spec.sensors, feature_source(spec, nets, data, device, pool), pool)
    predictions = []
    for split in data.splits:
        groups = stored_groups.read(manifests.FOLDER, split)
        clean = model.clean(split)
        logits = model.logits(clean, data.settings.batch_size)
        predictions += [Predictions(seed, split, groups, own.numpy()) for seed, own in logits.items()]
        if split == data.robustness_split:
            label = f"{spec.name} with corrupted sensors"
            probes, decided = robustness.measure_robustness(model, data, clean, logits, label)
    return predictions, probes, decided


def feature_source(
    spec: ModelSpec, nets: dict[int, FusionNet], data: EvaluationData, device: torch.device, pool: Executor
) -> Callable[[SensorState], Features]:
    """A function that returns the features of a sensor in one state.

    The features of a unimodal network are its logits. They are stored, and late fusions over frozen networks read
    them instead of computing them.
    """
    compute = partial(sensor_states.features, nets, data, device)
    if spec.kind == "unimodal":
        states = data.states(spec.name)
        computed = console.track(
            pool.map(compute, states), f"{spec.name} on all states", len(states), "state"
        )
        logits = dict(zip(states, computed, strict=True))
        sensor_logits.write(spec.name, logits, weights_digests(spec.name, nets))
        return logits.__getitem__
    if spec.has_frozen_nets:
        read: dict[SensorState, Features] = {}
        for sensor in spec.sensors:
            read |= sensor_logits.read(sensor, data.states(sensor), weights_digests(sensor, nets), device)
        return read.__getitem__
    return compute


def weights_digests(name: str, seeds: Iterable[int]) -> dict[int, str]:
    return {seed: checkpoints.weights_digest(name, seed) for seed in seeds}


def track(name: str, measured: dict[int, dict[str, Metrics]], settings: Track) -> None:
    """Adds the test metrics of every seed to its run in the tracker, if params.yaml names one."""
    if settings.backend != "none":
        # By name: evaluation depends on every module that it imports, and a tracker must not make it run again.
        live = importlib.import_module("stages.lib.tracking.live")
        finished = [
            (checkpoints.metadata(name, seed), asdict(splits["test"]))
            for seed, splits in measured.items()
            if "test" in splits
        ]
        live.log_test_metrics(settings, finished)


if __name__ == "__main__":
    console.run(main)
