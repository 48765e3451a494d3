"""What a trained model makes of sensors as they are, missing, shuffled or corrupted.

Nothing but forward passes, side by side in single threads: layers this small lose time when threads share one.

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
from stages.lib.evaluation.states import MISSING, Data, Features, State
from stages.lib.models.networks import FusionNet


@contextmanager
def thread_pool(device: torch.device) -> Iterator[Executor]:
    """Threads to compute in: as many as would share a layer otherwise, and a single one for a GPU."""
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
        sensors: those that they see.
        look: gives the features of a sensor's state.
        pool: where it is all computed.
    """

    networks: dict[int, FusionNet]
    sensors: tuple[str, ...]
    look: Callable[[State], Features]
    pool: Executor

    def clean(self, split: str) -> dict[str, Features]:
        """Features of a split's samples as they were measured, by sensor."""
        states = [State(sensor, split) for sensor in self.sensors]
        return dict(zip(self.sensors, self.pool.map(self.look, states), strict=True))

    def logits(self, clean: dict[str, Features], batch_size: int) -> dict[int, Float[Tensor, "N K"]]:
        """What every seed's network says of these samples."""
        seeds = list(self.networks)
        found = self.pool.map(lambda seed: _logits(self.networks[seed], _of(clean, seed), batch_size), seeds)
        return dict(zip(seeds, found, strict=True))


def measure_robustness(
    subject: TrainedModel, data: Data, clean: dict[str, Features], label: str
) -> dict[int, Probes]:
    """Balanced accuracy of every seed's model on the split that is probed, under every state of its sensors.

    Args:
        clean: features of that split.
        label: what the progress is called.
    """
    networks, own, pool, settings = subject.networks, subject.sensors, subject.pool, data.settings
    labels, labels_few = data.labels, data.labels[data.few]
    blank = {sensor: subject.look(State(sensor, MISSING)) for sensor in own}
    orders = _orders(len(labels), settings.permutations)

    def accuracy(seed: int, features: dict[str, Tensor], labels: Int[np.ndarray, "n"]) -> float:
        logits = _logits(networks[seed], features, settings.batch_size)
        return metrics.balanced_accuracy(metrics.confusion(logits.numpy(), labels))

    def undisturbed(seed: int) -> Probes:
        """With sensors as they are, or missing."""
        seen, gone = _of(clean, seed), _of(blank, seed)
        gone = {sensor: gone[sensor].expand_as(seen[sensor]) for sensor in own}
        few = {sensor: seen[sensor][data.few] for sensor in own}
        untouched = accuracy(seed, few, labels_few) if settings.severities else 0.0
        return Probes(
            clean=accuracy(seed, seen, labels),
            missing={sensor: accuracy(seed, seen | {sensor: gone[sensor]}, labels) for sensor in own}
            | {"both": accuracy(seed, gone, labels)},
            shuffled={},
            corrupted={
                sensor: {state.name: {"0": untouched} for state in data.corruptions(sensor)}
                for sensor in own
                if settings.severities
            },
        )

    def shuffled(of: tuple[int, str]) -> float:
        """With the inputs of one sensor from other groups; the mean over all orders."""
        seed, sensor = of
        seen = _of(clean, seed)
        moved = (seen | {sensor: seen[sensor][order]} for order in orders)
        return float(np.mean([accuracy(seed, features, labels) for features in moved]))

    def corrupted(state: State) -> dict[int, float]:
        """With one sensor corrupted; of every seed."""
        found = subject.look(state)
        return {
            seed: accuracy(
                seed,
                {sensor: clean[sensor][seed][data.few] for sensor in own} | {state.sensor: found[seed]},
                labels_few,
            )
            for seed in networks
        }

    probes = dict(zip(networks, pool.map(undisturbed, networks), strict=True))
    pairs = list(product(networks, own if orders else ()))
    for (seed, sensor), mean in zip(pairs, pool.map(shuffled, pairs), strict=True):
        probes[seed].shuffled[sensor] = mean
    states = [state for sensor in own for state in data.corruptions(sensor)]
    told = console.track(pool.map(corrupted, states), label, len(states), "corruption") if states else []
    for state, by_seed in zip(states, told, strict=True):
        for seed, found in by_seed.items():
            probes[seed].corrupted[state.sensor][state.name][str(state.severity)] = found
    return probes


def _of(features: dict[str, Features], seed: int) -> dict[str, Tensor]:
    return {sensor: by_seed[seed] for sensor, by_seed in features.items()}


@torch.no_grad()
def _logits(network: FusionNet, features: dict[str, Tensor], batch_size: int) -> Float[Tensor, "N K"]:
    """On the CPU, from the features of every sensor that the network sees."""
    # A net of one sensor is handed its own features for the other's too, and does not look at them.
    first = next(iter(features.values()))
    parts = [
        network.join(*(features.get(sensor, first)[start : start + batch_size] for sensor in SENSORS))
        for start in range(0, len(first), batch_size)
    ]
    return torch.cat(parts).float().cpu()


def _orders(count: int, permutations: int) -> list[Tensor]:
    """Orders to shuffle samples in: the same for every model and seed."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randperm(count, generator=generator) for _ in range(permutations)]
