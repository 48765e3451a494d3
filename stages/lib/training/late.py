"""Trains late fusions on the trained unimodal networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path

import torch
from torch import nn

from stages.lib.core.names import SENSORS
from stages.lib.fusions import ModelSpec
from stages.lib.fusions.base import LateFusion
from stages.lib.models import checkpoints, devices, inference, networks
from stages.lib.models.architecture import Architecture
from stages.lib.models.networks import LateNet, UnimodalNet
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split
from stages.lib.training.inputs import CachedLogits
from stages.lib.training.progress import SeedReport
from stages.lib.training.resume import Scratch
from stages.lib.training.seed import train_seed
from stages.lib.training.settings import ComputeConfig, TrainConfig
from stages.lib.training.state import TrainState


@dataclass(frozen=True)
class TrainedNets:
    """The training inputs of a late fusion: two trained unimodal networks, and their data."""

    spec: ModelSpec
    sizes: Architecture
    manifest: Manifest
    tensors: Path
    models: Path

    def head(self) -> LateFusion:
        return networks.build_head(self.spec.name, self.sizes)

    def whole(self, seed: int) -> LateNet:
        """The untrained head over the networks."""
        # The head first, so that its initial weights depend only on the seed, as without the networks.
        fusion = self.head()
        return LateNet(*self.nets(seed), fusion)

    def nets(self, seed: int) -> tuple[UnimodalNet, UnimodalNet]:
        """The trained network of each sensor."""
        rgb, lidar = (checkpoints.load_network(sensor, seed, self.sizes, self.models) for sensor in SENSORS)
        assert isinstance(rgb, UnimodalNet) and isinstance(lidar, UnimodalNet)
        return rgb, lidar

    def splits(self) -> tuple[Split, Split]:
        train, validation = (Split(self.tensors, self.manifest, name) for name in ("train", "validation"))
        return train, validation

    def logits(self, seed: int, device: torch.device) -> tuple[CachedLogits, CachedLogits]:
        """Both networks' logits on the training and the validation split."""
        rgb, lidar = self.nets(seed)
        train, validation = (cache_logits(rgb, lidar, split, device) for split in self.splits())
        return train, validation


def cache_logits(rgb: nn.Module, lidar: nn.Module, split: Split, device: torch.device) -> CachedLogits:
    """Logits of both networks on each sample of a split, and where their sensor is missing."""
    side = split.images_and_rasters([0])[0].shape[-1]
    no_image, no_raster = (values.expand(1, -1, side, side).to(device) for values in split.absent())
    logits, absent = [], []
    for net in (rgb, lidar):
        devices.place(net, device)
        logits.append(inference.predict(net, split, batch_size=32, device=device))
        with torch.no_grad():
            absent.append(inference.forward(net, no_image, no_raster, device, "float32")[0].float().cpu())
    return CachedLogits(logits[0], logits[1], split.labels, (absent[0], absent[1]))


def train_late_seed(
    nets: TrainedNets,
    *,
    config: TrainConfig,
    compute: ComputeConfig,
    scratch: Scratch,
    seed: int,
    on_progress: Callable[[SeedReport], None],
    positions: Callable[[int], list[int]] | None = None,
) -> TrainState:
    """Trains one seed; on logits that are computed once, if the networks are frozen."""
    train = partial(
        train_seed,
        config=config,
        compute=compute,
        scratch=scratch,
        seed=seed,
        on_progress=on_progress,
        positions=positions,
    )
    if not nets.spec.has_frozen_nets:
        return train(partial(nets.whole, seed), nets.splits, trainable=attrgetter("own_weights"))
    return train(nets.head, partial(nets.logits, seed, compute.device))
