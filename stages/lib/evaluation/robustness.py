"""Accuracy of a trained model with sensors as measured, missing, shuffled or corrupted.

Only forward passes, side by side in single threads: layers this small become slower when threads share one.

N = samples of a split;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.lib.core import console
from stages.lib.core.names import SENSORS
from stages.lib.evaluation import metrics
from stages.lib.evaluation.results import Probes
from stages.lib.evaluation.sensor_states import MISSING, EvaluationData, Features, SensorState
from stages.lib.models.networks import FusionNet


@contextmanager
def thread_pool(device: torch.device) -> Iterator[Executor]:
    """Threads for computing: as many as PyTorch would use for one layer, or a single one for a GPU."""
    count = torch.get_num_threads() if device.type == "cpu" else 1
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class TrainedModel:
    """One model under evaluation.

    Args:
        networks: by seed, in evaluation mode.
        sensors: those that the networks see.
        features: returns the features of a sensor in one state.
        pool: threads for computing.
    """

    networks: dict[int, FusionNet]
    sensors: tuple[str, ...]
    features: Callable[[SensorState], Features]
    pool: Executor

    def clean(self, split: str) -> dict[str, Features]:
        """Features of a split's samples as measured, by sensor."""
        states = [SensorState(sensor, split) for sensor in self.sensors]
        return dict(zip(self.sensors, self.pool.map(self.features, states), strict=True))

    def logits(self, clean: dict[str, Features], batch_size: int) -> dict[int, Float[Tensor, "N K"]]:
        """Logits of every seed's network on these samples."""
        seeds = list(self.networks)
        logits = self.pool.map(
            lambda seed: _logits(self.networks[seed], _of_seed(clean, seed), batch_size), seeds
        )
        return dict(zip(seeds, logits, strict=True))


def measure_robustness(
    model: TrainedModel, data: EvaluationData, clean: dict[str, Features], label: str
) -> dict[int, Probes]:
    """Balanced accuracy of every seed's network on the robustness split, with the sensors in every state.

    Args:
        clean: features of that split as measured.
        label: of the progress bar.
    """
    networks, sensors, pool, settings = model.networks, model.sensors, model.pool, data.settings
    labels, corrupted_labels = data.labels, data.labels[data.corrupted_samples]
    missing = {sensor: model.features(SensorState(sensor, MISSING)) for sensor in sensors}
    orders = _orders(len(labels), settings.permutations)

    def accuracy(seed: int, features: dict[str, Tensor], labels: Int[np.ndarray, "n"]) -> float:
        logits = _logits(networks[seed], features, settings.batch_size)
        weighed = metrics.weighed(logits.numpy(), data.class_shares)
        return metrics.balanced_accuracy(metrics.confusion(weighed, labels))

    def with_missing(seed: int) -> Probes:
        """With all sensors as measured, and with each or both missing."""
        present, absent = _of_seed(clean, seed), _of_seed(missing, seed)
        absent = {sensor: absent[sensor].expand_as(present[sensor]) for sensor in sensors}
        selected = {sensor: present[sensor][data.corrupted_samples] for sensor in sensors}
        uncorrupted = accuracy(seed, selected, corrupted_labels) if settings.severities else 0.0
        return Probes(
            clean=accuracy(seed, present, labels),
            missing={sensor: accuracy(seed, present | {sensor: absent[sensor]}, labels) for sensor in sensors}
            | {"both": accuracy(seed, absent, labels)},
            shuffled={},
            corrupted={
                sensor: {state.name: {"0": uncorrupted} for state in data.corruptions(sensor)}
                for sensor in sensors
                if settings.severities
            },
        )

    def with_shuffled(pair: tuple[int, str]) -> float:
        """With one sensor's inputs from other groups; the mean over all orders."""
        seed, sensor = pair
        present = _of_seed(clean, seed)
        shuffled = (present | {sensor: present[sensor][order]} for order in orders)
        return float(np.mean([accuracy(seed, features, labels) for features in shuffled]))

    def with_corrupted(state: SensorState) -> dict[int, float]:
        """With one sensor corrupted; by seed."""
        corrupted = model.features(state)
        return {
            seed: accuracy(
                seed,
                {sensor: clean[sensor][seed][data.corrupted_samples] for sensor in sensors}
                | {state.sensor: corrupted[seed]},
                corrupted_labels,
            )
            for seed in networks
        }

    probes = dict(zip(networks, pool.map(with_missing, networks), strict=True))
    pairs = list(product(networks, sensors if orders else ()))
    for (seed, sensor), mean in zip(pairs, pool.map(with_shuffled, pairs), strict=True):
        probes[seed].shuffled[sensor] = mean
    states = [state for sensor in sensors for state in data.corruptions(sensor)]
    results = pool.map(with_corrupted, states)
    tracked = console.track(results, label, len(states), "corruption") if states else []
    for state, by_seed in zip(states, tracked, strict=True):
        for seed, value in by_seed.items():
            probes[seed].corrupted[state.sensor][state.name][str(state.severity)] = value
    return probes


def _of_seed(features: dict[str, Features], seed: int) -> dict[str, Tensor]:
    return {sensor: by_seed[seed] for sensor, by_seed in features.items()}


@torch.no_grad()
def _logits(network: FusionNet, features: dict[str, Tensor], batch_size: int) -> Float[Tensor, "N K"]:
    """Logits on the CPU, from the features of every sensor that the network sees."""
    # A network of one sensor also gets its own features in place of the other sensor's, and ignores them.
    first = next(iter(features.values()))
    parts = [
        network.join(*(features.get(sensor, first)[start : start + batch_size] for sensor in SENSORS))
        for start in range(0, len(first), batch_size)
    ]
    return torch.cat(parts).float().cpu()


def _orders(count: int, permutations: int) -> list[Tensor]:
    """Orders for shuffling samples: the same for every model and seed."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randperm(count, generator=generator) for _ in range(permutations)]
