"""Predicts the groups of a dataset batch by batch, each with the sensors that it has.

N = groups of a batch;  C = colour channels;  S = side in pixels;  c = channels of one sensor;  Z = seeds
K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stages.lib.core.names import SENSORS
from stages.lib.datasets.prediction_groups import PredictionReader
from stages.lib.datasets.reader import DatasetGroup
from stages.lib.datasets.validation import DataChecks
from stages.lib.deployment import decoding
from stages.lib.deployment.decoding import Measured, Settings
from stages.lib.deployment.loading import Deployable
from stages.lib.evaluation import sensor_states
from stages.lib.export import plan
from stages.lib.export.decode import Pool
from stages.lib.models import devices
from stages.lib.models.networks import FusionNet
from stages.lib.params import Dataset
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.split import Split

# Groups that are decoded, and on a CPU encoded, at a time: as in the evaluation, so that logits are equal to the last
# bit. Larger batches do not fit a core's cache.
_TOGETHER = 32


@dataclass(frozen=True)
class DecodedGroup:
    """A group and its place among measurements."""

    group: DatasetGroup
    measured: Measured
    row: int


@dataclass(frozen=True)
class Predicted:
    """The predictions of a batch."""

    groups: list[DatasetGroup]
    logits: Float[np.ndarray, "Z N K"]  # not calibrated
    missing: dict[str, Bool[np.ndarray, "N"]]  # by sensor that the model sees


class Predictor:
    """A model on a device, with the inputs that stand for a missing sensor.

    Args:
        missing: `evaluate.missing`: "zeros" or "mean".
        batch_size: most groups in a forward pass.
        pool: threads for computing.
    """

    def __init__(
        self, deployed: Deployable, device: torch.device, missing: str, batch_size: int, pool: Executor
    ) -> None:
        self.deployed = deployed
        self._device, self._pool, self._batch_size = device, pool, batch_size
        self._networks = [devices.place(network, device) for network in deployed.networks]
        train = Split(manifests.FOLDER, deployed.manifest, "train")
        self._absent = sensor_states.missing_inputs(missing, train)

    def batches(self, groups: Iterable[DecodedGroup], checks: DataChecks) -> Iterator[Predicted]:
        """Predictions of all groups, in order.

        Args:
            checks: receives the groups that cannot be read, which are left out.
        """
        waiting: list[DecodedGroup] = []
        for decoded in groups:
            error = decoded.measured.errors.get(decoded.row)
            if error is not None:
                checks.error("unreadable", "", error)
                continue
            waiting.append(decoded)
            if len(waiting) == self._batch_size:
                yield self._predict(waiting)
                waiting = []
        if waiting:
            yield self._predict(waiting)

    def _predict(self, groups: list[DecodedGroup]) -> Predicted:
        sensors = self.deployed.spec.sensors
        missing = {
            sensor: np.array([each.measured.missing[sensor][each.row] for each in groups])
            for sensor in sensors
        }
        step = min(_TOGETHER, self._batch_size) if self._device.type == "cpu" else self._batch_size
        inputs = {
            sensor: [
                self._input(sensor, groups[start : start + step], missing[sensor][start : start + step])
                for start in range(0, len(groups), step)
            ]
            for sensor in sensors
        }

        @torch.no_grad()
        def logits(network: FusionNet) -> Float[Tensor, "N K"]:
            features = {
                sensor: torch.cat([network.features(sensor, part) for part in parts])
                for sensor, parts in inputs.items()
            }
            # A network for one sensor ignores the other input.
            rgb, lidar = (features.get(sensor, features[sensors[0]]) for sensor in SENSORS)
            return network.join(rgb, lidar).float().cpu()

        found = torch.stack(list(self._pool.map(logits, self._networks)))
        return Predicted([each.group for each in groups], found.numpy(), missing)

    def _input(
        self, sensor: str, groups: list[DecodedGroup], missing: Bool[np.ndarray, "N"]
    ) -> Float[Tensor, "N c S S"]:
        stored = [
            (each.measured.images if sensor == "rgb" else each.measured.rasters)[each.row] for each in groups
        ]
        inputs = self.deployed.model.network_input(sensor, torch.from_numpy(np.stack(stored)))
        if missing.any():
            is_missing = torch.from_numpy(missing).view(-1, 1, 1, 1)
            inputs = torch.where(is_missing, self._absent[sensor], inputs)
        return inputs.to(self._device, memory_format=torch.channels_last)


def decoded(
    reader: PredictionReader, dataset: Dataset, settings: Settings, pool: Pool
) -> Iterator[DecodedGroup]:
    """The groups of a dataset with their measurements, in order."""
    groups = reader.groups
    parts = [groups[start : start + _TOGETHER] for start in range(0, len(groups), _TOGETHER)]
    shards = [(Path(), part) for part in parts]
    jobs = (part for _, part in plan.make_jobs(reader, shards, dataset, settings.scan.max_pixels))
    for part, measured in zip(parts, decoding.measured(jobs, settings, pool), strict=True):
        for row, group in enumerate(part):
            yield DecodedGroup(group, measured, row)
