"""The training loop, for whole networks and for late fusion's head.

B = batch;  N = samples;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from stages.lib.models import devices, inference
from stages.lib.models.inference import Inputs
from stages.lib.training import augmentation
from stages.lib.training.losses import TrainingLoss, losses
from stages.lib.training.schedule import learning_rate_at
from stages.lib.training.settings import TrainConfig
from stages.lib.training.state import Epoch, TrainState, cpu_copy, generator_states, moments, restore

# Nats: a hundred times the loss of random predictions. A training whose epoch averages more does not recover.
_DIVERGED_LOSS = 100


class Diverged(Exception):
    """The loss became NaN, infinite or far too large."""


class OutOfMemory(Exception):
    """A batch did not fit into memory."""


def seeded_build(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Builds a network whose initial weights depend on the seed alone."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return build()


def fit(
    network: nn.Module,
    train: Inputs,
    validation: Inputs,
    *,
    config: TrainConfig,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[TrainState], None],
    trainable: nn.Module | None = None,
    state: TrainState | None = None,
) -> TrainState:
    """Trains a network with Adam and keeps the weights of the epoch with the lowest validation loss.

    A network without weights to train has a single epoch, in which only the losses are computed.

    Args:
        network: with its initial weights.
        seed: of the order of the data.
        on_epoch: called with the state after each epoch; the next epoch changes this object.
        trainable: the part of the network that trains and whose weights are kept; all of it by default.
        state: of an interrupted training, to resume.

    Raises:
        Diverged: when a loss is not a finite number, or far too large.
        OutOfMemory: when a batch does not fit into memory.
    """
    devices.reset_peak_memory(device)
    devices.place(network, device)
    train, validation = train.to(device), validation.to(device)
    trainable = trainable or network
    if next(trainable.parameters(), None) is None:
        return _untrained(network, train, validation, config, device, on_epoch)
    learnable = _learnable(train, validation)
    loss = TrainingLoss(train.labels, config.label_smoothing, config.class_weights)
    # Adam, with weight decay kept apart from it (Loshchilov and Hutter 2019, arXiv 1711.05101).
    optimizer = torch.optim.AdamW(
        trainable.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    generators = {name: torch.Generator().manual_seed(seed) for name in ("order", "augmentation")}
    if state is None:
        state = TrainState()
    else:
        restore(state, trainable, optimizer, generators, device)

    while len(state.history) < config.num_epochs(len(train)) and not _stops_early(state, config.patience):
        started = time.perf_counter()
        learning_rate, train_losses = _train_epoch(
            network, trainable, train, optimizer, generators, loss, len(state.history) + 1, config, device
        )
        valid_loss = _mean_loss(network, validation, learnable, config, device)
        train_loss = _checked_mean(train_losses, valid_loss, len(state.history) + 1, len(train))
        state.epoch_s.append(time.perf_counter() - started)

        state.history.append(Epoch(len(state.history) + 1, learning_rate, train_loss, valid_loss))
        state.weights = trainable.state_dict()
        if state.best_epoch == 0 or valid_loss < state.history[state.best_epoch - 1].valid_loss:
            state.best_epoch = len(state.history)
            state.best = {name: cpu_copy(tensor) for name, tensor in state.weights.items()}
        state.moments = moments(trainable, optimizer)
        state.generators = generator_states(generators, device)
        state.peak_memory_mib = max(state.peak_memory_mib, devices.peak_memory_mib(device))
        on_epoch(state)
    return state


def _untrained(
    network: nn.Module,
    train: Inputs,
    validation: Inputs,
    config: TrainConfig,
    device: torch.device,
    on_epoch: Callable[[TrainState], None],
) -> TrainState:
    """The state of a network without weights to train: one epoch, with its losses."""
    started = time.perf_counter()
    train_loss, valid_loss = (
        _mean_loss(network, part, _learnable(train, part), config, device) for part in (train, validation)
    )
    state = TrainState(history=[Epoch(1, 0.0, train_loss, valid_loss)], best_epoch=1)
    state.epoch_s.append(time.perf_counter() - started)
    state.peak_memory_mib = devices.peak_memory_mib(device)
    on_epoch(state)
    return state


def _learnable(train: Inputs, part: Inputs) -> Bool[Tensor, "N"]:
    """Which samples belong to a class of the training split; all of them if none does.

    The others say nothing about an epoch: the surer a network is of the classes that it knows, the larger their loss.
    """
    learnable = torch.isin(part.labels, train.labels).cpu()
    return learnable if learnable.any() else torch.ones_like(learnable)


def _mean_loss(
    network: nn.Module,
    part: Inputs,
    counted: Bool[Tensor, "N"],
    config: TrainConfig,
    device: torch.device,
) -> float:
    logits = inference.predict(network, part, config.batch_size, device, config.precision)
    return float(losses(logits, part.labels.cpu())[counted].mean())


def _stops_early(state: TrainState, patience: int | None) -> bool:
    return patience is not None and len(state.history) - state.best_epoch >= patience


def _train_epoch(
    network: nn.Module,
    trainable: nn.Module,
    train: Inputs,
    optimizer: torch.optim.Optimizer,
    generators: dict[str, torch.Generator],
    loss: TrainingLoss,
    epoch: int,
    config: TrainConfig,
    device: torch.device,
) -> tuple[float, Float[Tensor, "batches"]]:
    """One pass over the data; returns the last learning rate and each batch's summed loss.

    Nothing here waits for the device: losses are read when the epoch is over.
    """
    network.train()
    order = torch.randperm(len(train), generator=generators["order"])
    labels = train.labels[order.to(device)]
    draws = None
    if config.augment.is_on:
        draws = augmentation.draw(config.augment, len(train), generators["augmentation"]).to(device)
    batches = order.split(config.batch_size)
    num_steps = config.num_epochs(len(train)) * len(batches)
    sums = torch.zeros(len(batches), device=device)
    learning_rate = config.learning_rate
    for number, indices in enumerate(batches):
        start = number * config.batch_size
        part = slice(start, start + len(indices))
        step = (epoch - 1) * len(batches) + number
        learning_rate = learning_rate_at(step, num_steps, config)
        optimizer.param_groups[0]["lr"] = learning_rate
        try:
            inputs = train.batch(indices.tolist())
            if draws is not None:
                inputs = augmentation.apply(inputs, draws.of(part), train.absent())
            logits = inference.forward(network, *inputs, device, config.precision)
            optimizer.zero_grad()
            loss(logits, labels[part]).backward()
        except (MemoryError, RuntimeError) as error:
            if _is_out_of_memory(error):
                raise OutOfMemory(f"epoch {epoch}, batch {number + 1} of {len(batches)}") from None
            raise
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(trainable.parameters(), config.clip_norm)
        optimizer.step()
        sums[number] = losses(logits.detach(), labels[part]).sum()
    return learning_rate, sums


def _checked_mean(sums: Float[Tensor, "batches"], valid_loss: float, epoch: int, num_samples: int) -> float:
    """Mean training loss per sample.

    Raises:
        Diverged: when a loss is not a finite number, or far too large.
    """
    values = sums.tolist()
    for number, value in enumerate(values, start=1):
        if not math.isfinite(value):
            raise Diverged(f"epoch {epoch}, batch {number} of {len(values)}: the training loss is {value}")
    if not math.isfinite(valid_loss):
        raise Diverged(f"epoch {epoch}, after batch {len(values)}: the validation loss is {valid_loss}")
    mean = sum(values) / num_samples
    if mean > _DIVERGED_LOSS:
        worst = values.index(max(values)) + 1
        raise Diverged(
            f"epoch {epoch}, batch {worst} of {len(values)}: the training loss explodes ({mean:.3g} nats on average)"
        )
    return mean


def _is_out_of_memory(error: BaseException) -> bool:
    """PyTorch has an error class for a GPU's memory, but only an error text for the CPU's."""
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
