"""How to train, and on what to compute: settings of params.yaml in the form that training uses."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stages.lib.fusions import ModelSpec
from stages.lib.params import Train
from stages.lib.training.augmentation import Augmentation


@dataclass(frozen=True)
class TrainConfig:
    """How to train; params.yaml gives the meaning and unit of each value."""

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    weight_decay: float
    clip_norm: float | None
    patience: int | None
    class_weights: str
    augment: Augmentation
    precision: str


def train_config(train: Train, spec: ModelSpec) -> TrainConfig:
    """How this model is trained.

    A head over frozen networks has its own number of epochs and learning rate. Sensors are dropped only where the
    model sees two of them.
    """
    length = train.late if spec.has_frozen_nets else train
    sensor_dropout = train.augment.sensor_dropout if len(spec.sensors) > 1 else 0.0
    return TrainConfig(
        epochs=length.epochs,
        batch_size=train.batch_size,
        learning_rate=length.learning_rate,
        schedule=train.schedule,
        weight_decay=train.weight_decay,
        clip_norm=train.clip_norm,
        patience=train.patience,
        class_weights=train.class_weights,
        augment=Augmentation(train.augment.flip, train.augment.shift, sensor_dropout),
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
