"""Accuracy of a trained model with sensors as measured, missing, shuffled or corrupted.

Only forward passes, side by side in single threads: layers this small become slower when threads share one.

N = samples of a split;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from stages.lib.evaluation.decisions import ABSENT, BOTH, CLEAN, MISSING, Decisions
from stages.lib.evaluation.results import Probes
from stages.lib.evaluation.sensor_states import EvaluationData, Features, SensorState
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
    model: TrainedModel,
    data: EvaluationData,
    clean: dict[str, Features],
    logits: dict[int, Float[Tensor, "N K"]],
    label: str,
) -> tuple[dict[int, Probes], Decisions]:
    """Decisions of every seed's network on the robustness split with the sensors in every state; their accuracy.

    Args:
        clean: features of that split as measured.
        logits: from these features, by seed.
        label: of the progress bar.
    """
    networks, sensors, pool, settings = model.networks, model.sensors, model.pool, data.settings
    missing = {sensor: model.features(SensorState(sensor, MISSING)) for sensor in sensors}
    orders = _orders(len(data.labels), settings.permutations)
    states = [state for sensor in sensors for state in data.corruptions(sensor)]

    def decided_by(logits: Float[Tensor, "n K"]) -> Int[np.ndarray, "n"]:
        return metrics.predicted(metrics.weighed(logits.numpy(), data.class_shares))

    def decide(seed: int, features: dict[str, Tensor]) -> Int[np.ndarray, "n"]:
        return decided_by(_logits(networks[seed], features, settings.batch_size))

    def with_missing(seed: int) -> dict[str, Int[np.ndarray, "N"]]:
        """With all sensors as measured, and with each or both missing."""
        present, absent = _of_seed(clean, seed), _of_seed(missing, seed)
        absent = {sensor: absent[sensor].expand_as(present[sensor]) for sensor in sensors}
        # Without both sensors all samples look the same; a batch of them has the same bits as the first of many.
        batch = {sensor: same[: settings.batch_size] for sensor, same in absent.items()}
        return (
            {CLEAN: decided_by(logits[seed])}
            | {
                str(SensorState(sensor, MISSING)): decide(seed, present | {sensor: absent[sensor]})
                for sensor in sensors
            }
            | {str(SensorState(BOTH, MISSING)): np.repeat(decide(seed, batch)[:1], len(data.labels))}
        )

    def with_shuffled(pair: tuple[int, str]) -> float:
        """With one sensor's inputs from other groups; the mean accuracy over all orders."""
        seed, sensor = pair
        present = _of_seed(clean, seed)
        shuffled = (present | {sensor: present[sensor][order]} for order in orders)
        return float(np.mean([_accuracy(decide(seed, features), data) for features in shuffled]))

    def with_corrupted(state: SensorState) -> Int[np.ndarray, "S N"]:
        """With one sensor corrupted."""
        corrupted, samples = model.features(state), data.samples(state)
        decided = np.full((len(networks), len(data.labels)), ABSENT)
        for row, seed in enumerate(networks):
            selected = {sensor: clean[sensor][seed][samples] for sensor in sensors}
            decided[row, samples] = decide(seed, selected | {state.sensor: corrupted[seed]})
        return decided

    by_seed = list(pool.map(with_missing, networks))
    decided = {state: np.stack([part[state] for part in by_seed]) for state in by_seed[0]}
    pairs = list(product(networks, sensors if orders else ()))
    shuffled = dict(zip(pairs, pool.map(with_shuffled, pairs), strict=True))
    results = pool.map(with_corrupted, states)
    tracked = console.track(results, label, len(states), "corruption") if states else []
    decided |= {str(state): found for state, found in zip(states, tracked, strict=True)}
    decisions = Decisions(list(networks), [group.group for group in data.groups], decided)
    probes = {}
    for row, seed in enumerate(networks):
        own = {state: found[row] for state, found in decided.items()}
        probes[seed] = _probes(own, data, sensors, states)
        probes[seed].shuffled.update({sensor: shuffled[seed, sensor] for sensor in sensors if orders})
    return probes, decisions


def _probes(
    decided: dict[str, Int[np.ndarray, "N"]],
    data: EvaluationData,
    sensors: Sequence[str],
    states: list[SensorState],
) -> Probes:
    """One seed's accuracies, without those of shuffled sensors."""
    corrupted: dict[str, dict[str, dict[str, float]]] = {}
    for state in states:
        by_name = corrupted.setdefault(state.sensor, {})
        of_none = {"0": _accuracy(decided[CLEAN], data, data.samples(state))}
        accuracy = _accuracy(decided[str(state)], data, data.samples(state))
        by_name.setdefault(state.name, of_none)[str(state.severity)] = accuracy
    return Probes(
        clean=_accuracy(decided[CLEAN], data),
        missing={
            sensor: _accuracy(decided[str(SensorState(sensor, MISSING))], data) for sensor in (*sensors, BOTH)
        },
        shuffled={},
        corrupted=corrupted,
    )


def _accuracy(
    decided: Int[np.ndarray, "N"], data: EvaluationData, samples: Sequence[int] | None = None
) -> float:
    """Balanced accuracy on these samples; on all where none are named."""
    chosen = slice(None) if samples is None else list(samples)
    counts = metrics.confusion_of(decided[chosen], data.labels[chosen], len(data.class_shares))
    return metrics.balanced_accuracy(counts)


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
