"""How to train, and on what to compute: settings of params.yaml in the form that training uses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from stages.lib.fusions import ModelSpec
from stages.lib.params import OwnSettings, Train
from stages.lib.training.augmentation import Augmentation


@dataclass(frozen=True)
class TrainConfig:
    """How to train; params.yaml gives the meaning and unit of each value."""

    epochs: int
    min_steps: int
    batch_size: int
    learning_rate: float
    schedule: str
    weight_decay: float
    clip_norm: float | None
    patience: int | None
    subsample: float
    class_weights: str
    label_smoothing: float
    augment: Augmentation
    precision: str

    def num_epochs(self, num_samples: int) -> int:
        """Epochs on a training split of this size: `epochs`, or as many as `min_steps` steps take."""
        steps = math.ceil(num_samples / self.batch_size)
        return max(self.epochs, math.ceil(self.min_steps / steps))


def train_config(train: Train, spec: ModelSpec) -> TrainConfig:
    """How this model is trained.

    A head over frozen networks has its own number of epochs and learning rate, and is not augmented by flips and
    shifts, so that the networks' logits are computed only once. Sensors are dropped only where the model sees two.
    What `train.per_model` sets for a model replaces its learning rate or weight decay.
    """
    length = train.late if spec.has_frozen_nets else train
    own = train.per_model.get(spec.name, OwnSettings())
    augment = train.augment
    flip, shift = ("none", 0) if spec.has_frozen_nets else (augment.flip, augment.shift)
    sensor_dropout = augment.sensor_dropout if len(spec.sensors) > 1 else 0.0
    return TrainConfig(
        epochs=length.epochs,
        min_steps=length.min_steps,
        batch_size=train.batch_size,
        learning_rate=length.learning_rate if own.learning_rate is None else own.learning_rate,
        schedule=train.schedule,
        weight_decay=train.weight_decay if own.weight_decay is None else own.weight_decay,
        clip_norm=train.clip_norm,
        patience=train.patience,
        subsample=train.subsample,
        class_weights=train.class_weights,
        label_smoothing=train.label_smoothing,
        augment=Augmentation(flip, shift, sensor_dropout),
        precision=train.precision,
    )


@dataclass(frozen=True)
class ComputeConfig:
    """On what a seed is trained: all values except `save_every_s` may change the last digits of a result."""

    device: torch.device
    threads: int
    tf32: bool
    compile: str | None  # a backend of torch.compile
    save_every_s: float


def compute_config(train: Train, device: torch.device) -> ComputeConfig:
    return ComputeConfig(device, train.threads, train.tf32, train.compile, train.save_every_s)
