"""How to train, and where to compute: settings of params.yaml as the training takes them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stages.lib.params import Train
from stages.lib.training.augmentation import Augmentation


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the meaning and unit of each value stand in params.yaml."""

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


def train_config(train: Train, *, sensors: int = 2) -> TrainConfig:
    """The part of the settings that decides what is learned.

    Args:
        sensors: that the network sees. One that sees a single sensor has none to lose.
    """
    sensor_dropout = train.augment.sensor_dropout if sensors > 1 else 0.0
    return TrainConfig(
        epochs=train.epochs,
        batch_size=train.batch_size,
        learning_rate=train.learning_rate,
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
    """Where and how a seed is trained: all but the saving may change the last digits of a result."""

    device: torch.device
    threads: int
    tf32: bool
    compile: str | None  # a backend of torch.compile
    save_every_s: float


def compute_config(train: Train, device: torch.device) -> ComputeConfig:
    return ComputeConfig(device, train.threads, train.tf32, train.compile, train.save_every_s)
