"""What a trained model makes of sensors that are missing, shuffled or corrupted.

Each sensor's features are computed once for each of its states and joined with those of the other sensor;
nothing but forward passes.

N = samples of a split;  C, H, W = channels, height and width of a sensor's inputs
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.lib import metrics
from stages.lib.evaluation.corruptions import CORRUPTIONS
from stages.lib.evaluation.evaluations import Probes
from stages.lib.networks import FusionNet, UnimodalNet
from stages.lib.params import SENSORS, Evaluate
from stages.lib.store.tensors import Split
from stages.lib.terminal import progress

# Samples that are corrupted together: part of what a corruption's random numbers depend on, and therefore no
# setting.
_BLOCK = 256


@torch.no_grad()
def probe(
    networks: dict[int, FusionNet],
    split: Split,
    settings: Evaluate,
    blanks: dict[str, Float[Tensor, "C H W"]],
    device: torch.device,
    label: str,
) -> dict[int, Probes]:
    """Balanced accuracy of every seed's model on a split, under every state of its sensors.

    Args:
        networks: one model's, by seed.
        blanks: by sensor, the inputs that stand for a missing one.
        label: what the progress is called.
    """
    for network in networks.values():
        network.eval()
    labels = split.labels.cpu().numpy()
    network = next(iter(networks.values()))
    own = (network.sensor,) if isinstance(network, UnimodalNet) else SENSORS

    def features(sensor: str, inputs: Iterable[Tensor]) -> dict[int, Tensor]:
        """Of every seed; inputs, the larger work where networks are small, are made once for all."""
        parts: dict[int, list[Tensor]] = {seed: [] for seed in networks}
        for block in inputs:
            on_device = block.to(device, memory_format=torch.channels_last)
            for seed, network in networks.items():
                parts[seed].append(network.features(sensor, on_device))
        # Networks that do all when they join hand on the inputs themselves: these are kept once, not for each seed.
        joined: dict[tuple[int, ...], Tensor] = {}
        for blocks in parts.values():
            if tuple(map(id, blocks)) not in joined:
                joined[tuple(map(id, blocks))] = torch.cat(blocks)
        return {seed: joined[tuple(map(id, blocks))] for seed, blocks in parts.items()}

    # What a network does not see is never looked at.
    unseen = dict.fromkeys(networks, torch.zeros(len(labels), 1, device=device))
    clean = {
        sensor: features(sensor, _inputs(split, sensor, range(len(labels)))) if sensor in own else unseen
        for sensor in SENSORS
    }
    blank = {
        sensor: features(sensor, [blanks[sensor][None]]) if sensor in own else unseen for sensor in SENSORS
    }
    orders = _orders(len(labels), settings.permutations, device)
    few = _spread(labels, settings.corrupted_groups)
    probes, clean_few = {}, {}
    for seed, network in networks.items():
        seen = {sensor: clean[sensor][seed] for sensor in SENSORS}
        gone = {sensor: blank[sensor][seed].expand_as(seen[sensor]) for sensor in SENSORS}
        clean_few[seed] = {sensor: seen[sensor][few] for sensor in SENSORS}
        untouched = _accuracy(network, clean_few[seed], labels[few]) if settings.severities else 0.0
        probes[seed] = Probes(
            clean=_accuracy(network, seen, labels),
            missing={sensor: _accuracy(network, seen | {sensor: gone[sensor]}, labels) for sensor in own}
            | {"both": _accuracy(network, gone, labels)},
            shuffled={
                sensor: float(
                    np.mean(
                        [_accuracy(network, seen | {sensor: seen[sensor][order]}, labels) for order in orders]
                    )
                )
                for sensor in own
                if orders
            },
            corrupted={
                sensor: {name: {"0": untouched} for name in vars(getattr(settings.corruptions, sensor))}
                for sensor in own
                if settings.severities
            },
        )
    states = [
        (sensor, name, severity, strengths[severity - 1])
        for sensor in own
        for name, strengths in vars(getattr(settings.corruptions, sensor)).items()
        for severity in settings.severities
    ]
    told = progress.track(states, label, len(states), "corruption") if states else []
    for sensor, name, severity, strength in told:
        corrupted = features(sensor, _corrupted(split, sensor, few, name, severity, strength))
        for seed, network in networks.items():
            accuracy = _accuracy(network, clean_few[seed] | {sensor: corrupted[seed]}, labels[few])
            probes[seed].corrupted[sensor][name][str(severity)] = accuracy
    return probes


def blanks(setting: str, train: Split) -> dict[str, Float[Tensor, "C H W"]]:
    """The inputs that stand for a missing sensor.

    Args:
        setting: "zeros" for a black picture and an empty scan; "mean" for the training split's mean inputs,
            by channel.
    """
    first = dict(zip(SENSORS, train.measured([0]), strict=True))
    if setting == "zeros":
        return {
            sensor: train.normalized(sensor, torch.zeros_like(measured))[0]
            for sensor, measured in first.items()
        }
    means = {}
    for sensor, measured in first.items():
        sums = (
            train.normalized(sensor, block).double().sum(dim=(0, 2, 3))
            for block in _blocks(train, sensor, range(len(train)))
        )
        total = sum(sums, start=torch.zeros(()))
        mean = total / (len(train) * measured[0, 0].numel())
        means[sensor] = mean.float()[:, None, None].expand_as(measured[0])
    return means


def _accuracy(network: FusionNet, features: dict[str, Tensor], labels: Int[np.ndarray, "n"]) -> float:
    """Balanced accuracy on the features of both sensors."""
    parts = [
        network.join(*(features[sensor][start : start + _BLOCK] for sensor in SENSORS)).float().cpu()
        for start in range(0, len(labels), _BLOCK)
    ]
    return metrics.balanced_accuracy(metrics.confusion(torch.cat(parts).numpy(), labels))


def _inputs(split: Split, sensor: str, samples: Sequence[int]) -> Iterator[Tensor]:
    """A sensor's network inputs, some samples at a time."""
    return (split.normalized(sensor, measured) for measured in _blocks(split, sensor, samples))


def _corrupted(
    split: Split, sensor: str, samples: Sequence[int], name: str, severity: int, strength: float
) -> Iterator[Tensor]:
    """The same with a corruption, whose random numbers are the same for every model and seed."""
    for number, measured in enumerate(_blocks(split, sensor, samples)):
        seed = zlib.crc32(f"{sensor} {name} {severity} {number}".encode())
        generator = torch.Generator().manual_seed(seed)
        yield split.normalized(sensor, CORRUPTIONS[sensor][name](measured.cpu(), strength, generator))


def _blocks(split: Split, sensor: str, samples: Sequence[int]) -> Iterator[Tensor]:
    """What one sensor saw of these samples, some at a time."""
    for start in range(0, len(samples), _BLOCK):
        yield split.measured(samples[start : start + _BLOCK])[SENSORS.index(sensor)]


def _spread(labels: Int[np.ndarray, "N"], most: int) -> list[int]:
    """So many samples at most, in which classes have the shares that they have in all: the same for every model."""
    by_class = np.argsort(labels, kind="stable")
    places = np.linspace(0, len(labels) - 1, min(most, len(labels))).round().astype(int)
    return sorted(by_class[places].tolist())


def _orders(count: int, permutations: int, device: torch.device) -> list[Tensor]:
    """Orders to shuffle samples in: the same for every model and seed."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randperm(count, generator=generator).to(device) for _ in range(permutations)]
