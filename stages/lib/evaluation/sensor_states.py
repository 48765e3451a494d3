"""The states of a sensor under which a model is evaluated: as measured, missing, or corrupted.

The features of each sensor are computed once for each of its states and joined with those of the other sensor.

N = samples of a split;  C, H, W = channels, height and width of a sensor's inputs
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.lib.core.names import SENSORS
from stages.lib.evaluation import late_scan
from stages.lib.evaluation.corruptions import CORRUPTIONS
from stages.lib.evaluation.decisions import MISSING
from stages.lib.models.networks import FusionNet
from stages.lib.params import Evaluate
from stages.lib.tensors.groups import CachedGroup
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split

# Orientations that exchange rows and columns; and by how much a correlation must be larger to count.
_QUARTER_TURNS = {"rotate-90", "rotate-270", "transpose", "anti-transpose"}
_CLEARLY = 0.1

Features = dict[int, Tensor]  # of one sensor in one state, by seed

# Samples that are corrupted together. Not a setting, since a corruption's random numbers depend on it.
_BLOCK = 256

# Samples that a CPU encodes at a time: larger batches do not fit a core's cache and take up to 1.5 times as long.
_CPU_BATCH = 32


@dataclass(frozen=True)
class SensorState:
    """A sensor with all samples of a split as measured, with missing inputs, or with some samples corrupted."""

    sensor: str
    name: str  # a split's, `missing`, or a corruption's
    severity: int = 0  # of a corruption, from 1; 0 without one

    def __str__(self) -> str:
        """As files name it: `lidar missing`, `lidar fog 3`."""
        return " ".join(map(str, filter(None, (self.sensor, self.name, self.severity))))


@dataclass(frozen=True)
class EvaluationData:
    """The data on which models are evaluated.

    Args:
        splits: by name, all but the training split.
        robustness_split: the one on which sensors are missing, shuffled and corrupted.
        groups: of the robustness split, in the order of its samples.
        missing: by sensor, the inputs that stand for a missing one.
        class_shares: share of each class in the training split.
        beams_are_columns: whether the rasters' beams are columns instead of rows.
    """

    splits: dict[str, Split]
    robustness_split: str
    groups: list[CachedGroup]
    missing: dict[str, Float[Tensor, "C H W"]]
    class_shares: Float[np.ndarray, "L"]
    settings: Evaluate
    beams_are_columns: bool = False

    @property
    def labels(self) -> Int[np.ndarray, "N"]:
        """Labels of the robustness split."""
        return self.splits[self.robustness_split].labels.cpu().numpy()

    def samples(self, state: SensorState) -> list[int]:
        """The samples of the robustness split that are in this state of a sensor; the same for every model."""
        if state.name == late_scan.NAME:
            return self._late_samples
        return self._corrupted_samples if state.severity else list(range(len(self.labels)))

    @cached_property
    def _corrupted_samples(self) -> list[int]:
        return _stratified(range(len(self.labels)), self.labels, self.settings.corrupted_groups)

    @cached_property
    def _tracks(self) -> list[list[int]]:
        return late_scan.tracks(self.groups)

    @cached_property
    def _late_samples(self) -> list[int]:
        """Samples with an earlier or later scan; none where they are all of one class."""
        found = [index for track in self._tracks for index in track]
        if len(set(self.labels[found].tolist())) < 2:
            return []
        return _stratified(found, self.labels, self.settings.corrupted_groups)

    def corruptions(self, sensor: str) -> list[SensorState]:
        """All corruptions of a sensor that the data allow, with their severities."""
        states = [
            SensorState(sensor, name, severity)
            for name in vars(getattr(self.settings.corruptions, sensor))
            for severity in self.settings.severities
        ]
        return [state for state in states if self.samples(state)]

    def states(self, sensor: str) -> list[SensorState]:
        """All states of a sensor that a model is evaluated under."""
        names = [*self.splits, MISSING]
        return [SensorState(sensor, name) for name in names] + self.corruptions(sensor)

    def inputs(self, state: SensorState) -> Iterator[Tensor]:
        """The sensor's network inputs, in blocks of samples."""
        if state.name == MISSING:
            return iter([self.missing[state.sensor][None]])
        if state.severity:
            return self._corrupted(state)
        split = self.splits[state.name]
        blocks = _blocks(split, state.sensor, range(len(split)))
        return (split.network_input(state.sensor, measured) for measured in blocks)

    def _corrupted(self, state: SensorState) -> Iterator[Tensor]:
        """Corrupted inputs; their random numbers are the same for every model and seed."""
        split, samples = self.splits[self.robustness_split], self.samples(state)
        strength = getattr(getattr(self.settings.corruptions, state.sensor), state.name)[state.severity - 1]
        if state.name == late_scan.NAME:
            others = late_scan.sources(self._tracks, round(strength))
            blocks = _blocks(split, state.sensor, [others[index] for index in samples])
            yield from (split.network_input(state.sensor, measured) for measured in blocks)
            return
        corrupt = CORRUPTIONS[state.sensor][state.name]
        turned = state.name == "lost_beams" and self.beams_are_columns
        for number, measured in enumerate(_blocks(split, state.sensor, samples)):
            seed = zlib.crc32(f"{state.sensor} {state.name} {state.severity} {number}".encode())
            generator = torch.Generator().manual_seed(seed)
            measured = measured.cpu()
            corrupted = corrupt(measured.mT if turned else measured, strength, generator)
            yield split.network_input(state.sensor, corrupted.mT if turned else corrupted)


@torch.no_grad()
def features(
    networks: dict[int, FusionNet], data: EvaluationData, device: torch.device, state: SensorState
) -> Features:
    """The features of every seed's network; the inputs are computed once for all of them."""
    parts: dict[int, list[Tensor]] = {seed: [] for seed in networks}
    batch_size = data.settings.batch_size
    if device.type == "cpu":
        batch_size = min(batch_size, _CPU_BATCH)
    for block in data.inputs(state):
        for batch in block.split(batch_size):
            on_device = batch.to(device, memory_format=torch.channels_last)
            for seed, network in networks.items():
                parts[seed].append(network.features(state.sensor, on_device))
    # Networks that compute everything in `join` return the inputs as features: keep these once, not for each seed.
    joined: dict[tuple[int, ...], Tensor] = {}
    for blocks in parts.values():
        if tuple(map(id, blocks)) not in joined:
            joined[tuple(map(id, blocks))] = torch.cat(blocks)
    return {seed: joined[tuple(map(id, blocks))] for seed, blocks in parts.items()}


def missing_inputs(setting: str, train: Split) -> dict[str, Float[Tensor, "C H W"]]:
    """The inputs that stand for a missing sensor.

    Args:
        setting: "zeros" for a black image and a raster without returns; "mean" for the training split's mean
            inputs by channel.
    """
    first = dict(zip(SENSORS, train.images_and_rasters([0]), strict=True))
    if setting == "zeros":
        return {
            sensor: train.network_input(sensor, torch.zeros_like(measured))[0]
            for sensor, measured in first.items()
        }
    means = {}
    for sensor, measured in first.items():
        sums = (
            train.network_input(sensor, block).double().sum(dim=(0, 2, 3))
            for block in _blocks(train, sensor, range(len(train)))
        )
        total = sum(sums, start=torch.zeros(()))
        mean = total / (len(train) * measured[0, 0].numel())
        means[sensor] = mean.float()[:, None, None].expand_as(measured[0])
    return means


def _blocks(split: Split, sensor: str, samples: Sequence[int]) -> Iterator[Tensor]:
    """One sensor's measurements of these samples, in blocks."""
    for start in range(0, len(samples), _BLOCK):
        yield split.images_and_rasters(samples[start : start + _BLOCK])[SENSORS.index(sensor)]


def _stratified(samples: Sequence[int], labels: Int[np.ndarray, "N"], limit: int) -> list[int]:
    """At most `limit` of these samples, with the class shares of all of them."""
    chosen = np.array(samples)
    by_class = chosen[np.argsort(labels[chosen], kind="stable")]
    places = np.linspace(0, len(chosen) - 1, min(limit, len(chosen))).round().astype(int)
    return sorted(by_class[places].tolist())


def beams_are_columns(manifest: Manifest) -> bool:
    """Whether the beams of a spinning sensor are columns of the cached rasters.

    They run along the rows of a level camera's image, so along the rows of a raster that covers it. They are columns
    where orientations that exchange rows and columns fit the images clearly better than the configured one.
    """
    swapped, straight = -1.0, -1.0
    for name, fit in manifest.orientation_fits.items():
        if (name in _QUARTER_TURNS) != (manifest.orientation in _QUARTER_TURNS):
            swapped = max(swapped, fit)
        else:
            straight = max(straight, fit)
    return swapped > straight + _CLEARLY
