"""The training loop, for whole networks and for late fusion's head alike.

B = batch;  N = samples;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.models import devices, inference
from stages.lib.models.inference import Inputs
from stages.lib.training import augmentation
from stages.lib.training.losses import class_weights, losses
from stages.lib.training.schedule import learning_rate_at
from stages.lib.training.settings import TrainConfig
from stages.lib.training.state import Epoch, TrainState, cpu_copy, generator_states, moments, restore

# Nats: a hundred times what guessing costs. A run whose epoch averages more will not come back.
_HOPELESS = 100


class Diverged(Exception):
    """The loss became NaN, infinite or absurd."""


class OutOfMemory(Exception):
    """A batch did not fit."""


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
    recipe: TrainConfig,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[TrainState], None],
    learner: nn.Module | None = None,
    run: TrainState | None = None,
) -> TrainState:
    """Trains a network with Adam and keeps the weights of the epoch with the least validation loss.

    One that has no weights to train is judged once, as its only epoch.

    Args:
        seed: fixes the order of the data; the network comes with its initial weights.
        on_epoch: told after each epoch how far the run has come; to be read or written down at once,
            since the next epoch changes it.
        learner: the part of the network that trains and whose weights are kept; all of it by default.
        run: one that was interrupted, to go on with.

    Raises:
        Diverged: when a loss is no longer a finite number, or beyond all hope.
        OutOfMemory: when a batch does not fit.
    """
    devices.reset_peak_memory(device)
    devices.place(network, device)
    train, validation = train.to(device), validation.to(device)
    learner = learner or network
    if next(learner.parameters(), None) is None:
        return _judged(network, train, validation, recipe, device, on_epoch)
    num_classes = int(max(train.labels.max(), validation.labels.max())) + 1
    weights = class_weights(train.labels.cpu(), num_classes, recipe.class_weights).to(device)
    # Adam, with weight decay kept apart from it (Loshchilov and Hutter 2019, arXiv 1711.05101).
    optimizer = torch.optim.AdamW(
        learner.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    generators = {name: torch.Generator().manual_seed(seed) for name in ("order", "augmentation")}
    if run is None:
        run = TrainState()
    else:
        restore(run, learner, optimizer, generators, device)

    while len(run.history) < recipe.epochs and not _is_over(run, recipe.patience):
        started = time.perf_counter()
        learning_rate, train_losses = _train_epoch(
            network, learner, train, optimizer, generators, weights, len(run.history) + 1, recipe, device
        )
        logits = inference.predict(network, validation, recipe.batch_size, device, recipe.precision)
        valid_loss = float(losses(logits, validation.labels.cpu()).mean())
        train_loss = _checked_mean(train_losses, valid_loss, len(run.history) + 1, len(train))
        run.epoch_s.append(time.perf_counter() - started)

        run.history.append(Epoch(len(run.history) + 1, learning_rate, train_loss, valid_loss))
        run.weights = learner.state_dict()
        if run.best_epoch == 0 or valid_loss < run.history[run.best_epoch - 1].valid_loss:
            run.best_epoch = len(run.history)
            run.best = {name: cpu_copy(tensor) for name, tensor in run.weights.items()}
        run.moments = moments(learner, optimizer)
        run.generators = generator_states(generators, device)
        run.peak_memory_mib = max(run.peak_memory_mib, devices.peak_memory_mib(device))
        on_epoch(run)
    return run


def _judged(
    network: nn.Module,
    train: Inputs,
    validation: Inputs,
    recipe: TrainConfig,
    device: torch.device,
    on_epoch: Callable[[TrainState], None],
) -> TrainState:
    """The run of a network that has nothing to learn: one epoch, in which it is looked at."""
    started = time.perf_counter()
    train_loss, valid_loss = (
        float(
            losses(
                inference.predict(network, part, recipe.batch_size, device, recipe.precision),
                part.labels.cpu(),
            ).mean()
        )
        for part in (train, validation)
    )
    run = TrainState(history=[Epoch(1, 0.0, train_loss, valid_loss)], best_epoch=1)
    run.epoch_s.append(time.perf_counter() - started)
    run.peak_memory_mib = devices.peak_memory_mib(device)
    on_epoch(run)
    return run


def _is_over(run: TrainState, patience: int | None) -> bool:
    return patience is not None and len(run.history) - run.best_epoch >= patience


def _train_epoch(
    network: nn.Module,
    learner: nn.Module,
    train: Inputs,
    optimizer: torch.optim.Optimizer,
    generators: dict[str, torch.Generator],
    weights: Float[Tensor, "classes"],
    epoch: int,
    recipe: TrainConfig,
    device: torch.device,
) -> tuple[float, Float[Tensor, "batches"]]:
    """One pass over the data; gives the last learning rate and each batch's summed loss.

    Nothing in here waits for the device: losses are looked at when the epoch is over.
    """
    network.train()
    order = torch.randperm(len(train), generator=generators["order"])
    labels = train.labels[order.to(device)]
    draws = None
    if recipe.augment.is_on:
        draws = augmentation.draw(recipe.augment, len(train), generators["augmentation"]).to(device)
    batches = order.split(recipe.batch_size)
    sums = torch.zeros(len(batches), device=device)
    learning_rate = recipe.learning_rate
    for number, indices in enumerate(batches):
        start = number * recipe.batch_size
        part = slice(start, start + len(indices))
        step = (epoch - 1) * len(batches) + number
        learning_rate = learning_rate_at(step, recipe.epochs * len(batches), recipe)
        optimizer.param_groups[0]["lr"] = learning_rate
        try:
            inputs = train.batch(indices.tolist())
            if draws is not None:
                inputs = augmentation.apply(*inputs, draws.of(part), train.black())
            sample_losses = losses(
                inference.forward(network, *inputs, device, recipe.precision), labels[part]
            )
            optimizer.zero_grad()
            (sample_losses * weights[labels[part]]).mean().backward()
        except (MemoryError, RuntimeError) as error:
            if _is_out_of_memory(error):
                raise OutOfMemory(f"epoch {epoch}, batch {number + 1} of {len(batches)}") from None
            raise
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(learner.parameters(), recipe.clip_norm)
        optimizer.step()
        sums[number] = sample_losses.detach().sum()
    return learning_rate, sums


def _checked_mean(sums: Float[Tensor, "batches"], valid_loss: float, epoch: int, num_samples: int) -> float:
    """Mean training loss per sample.

    Raises:
        Diverged: when a loss is no longer a finite number, or beyond all hope.
    """
    values = sums.tolist()
    for number, value in enumerate(values, start=1):
        if not math.isfinite(value):
            raise Diverged(f"epoch {epoch}, batch {number} of {len(values)}: the training loss is {value}")
    if not math.isfinite(valid_loss):
        raise Diverged(f"epoch {epoch}, after batch {len(values)}: the validation loss is {valid_loss}")
    mean = sum(values) / num_samples
    if mean > _HOPELESS:
        worst = values.index(max(values)) + 1
        raise Diverged(
            f"epoch {epoch}, batch {worst} of {len(values)}: the training loss explodes ({mean:.3g} nats on average)"
        )
    return mean


def _is_out_of_memory(error: BaseException) -> bool:
    """PyTorch has a class for a GPU's memory, and words for the CPU's."""
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
