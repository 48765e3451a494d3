"""The training loop, for whole networks and for late fusion's head alike.

B = batch;  N = samples;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.training import augmentation, devices
from stages.lib.training.augmentation import Augmentation

# Nats: a hundred times what guessing costs. A run whose epoch averages more will not come back.
_HOPELESS = 100


class Diverged(Exception):
    """The loss became NaN, infinite or absurd."""


class OutOfMemory(Exception):
    """A batch did not fit."""


@dataclass(frozen=True)
class Recipe:
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


@dataclass(frozen=True)
class Epoch:
    """One epoch's outcome; losses are means per sample, the first over the epoch's own steps."""

    epoch: int  # from 1
    learning_rate: float  # of the last step
    train_loss: float
    valid_loss: float


@dataclass
class Run:
    """How far a seed has come: all that is needed to go on as if nothing had happened."""

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    epoch_s: list[float] = field(default_factory=list)  # seconds of each epoch, training and validation
    peak_memory_mib: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)  # weights of the best epoch, on the CPU
    weights: dict[str, Tensor] = field(default_factory=dict)  # of the last epoch
    moments: dict[str, Tensor] = field(default_factory=dict)  # Adam's
    generators: dict[str, Tensor] = field(default_factory=dict)  # states of all that draws random numbers


@runtime_checkable
class Inputs(Protocol):
    """What a network learns from: two inputs and a label per sample."""

    labels: Int[Tensor, "N"]

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Inputs: ...

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]: ...

    def black(self) -> Tensor: ...


class CachedLogits:
    """Logits of two frozen nets, each computed once per sample rather than once per epoch."""

    def __init__(
        self, rgb: Float[Tensor, "N K"], lidar: Float[Tensor, "N K"], labels: Int[Tensor, "N"]
    ) -> None:
        self._rgb, self._lidar, self.labels = rgb, lidar, labels

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> CachedLogits:
        return CachedLogits(self._rgb.to(device), self._lidar.to(device), self.labels.to(device))

    def batch(self, indices: Sequence[int]) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
        rows = torch.tensor(indices).to(self.labels.device, non_blocking=True)
        return self._rgb[rows], self._lidar[rows]

    def black(self) -> Tensor:
        raise TypeError("logits are not augmented; hand over the nets' own inputs instead")


def seeded_build(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Builds a network whose initial weights depend on the seed alone."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return build()


def losses(logits: Float[Tensor, "B K"], labels: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Cross-entropy of each sample in nats: binary from one logit, else over the classes."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], labels.float(), reduction="none")
    return F.cross_entropy(logits, labels, reduction="none")


def class_weights(labels: Int[Tensor, "N"], num_classes: int, setting: str) -> Float[Tensor, "classes"]:
    """What each class's samples count in the training loss.

    balanced: N / (classes that occur x samples of the class), so that all classes weigh the same and the
    mean over samples is 1 (King and Zeng 2001; scikit-learn's "balanced").
    """
    if setting == "none":
        return torch.ones(num_classes)
    counts = torch.bincount(labels, minlength=num_classes).float()
    return torch.where(counts > 0, len(labels) / ((counts > 0).sum() * counts.clamp(min=1)), 0.0)


def learning_rate_at(step: int, num_steps: int, recipe: Recipe) -> float:
    """Learning rate of a step, counted from 0.

    cosine: half a cosine from the peak down to zero (Loshchilov and Hutter 2017, arXiv 1608.03983).
    one-cycle: a linear rise over the first 30 % of the steps, then half a cosine down to zero
    (Smith and Topin 2017, arXiv 1708.07120, in the form that fast.ai made common).
    """
    if recipe.schedule == "constant":
        return recipe.learning_rate
    rise = 0.3 * num_steps if recipe.schedule == "one-cycle" else 0.0
    if step < rise:
        return recipe.learning_rate * (step + 1) / (rise + 1)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / (num_steps - rise)))


def fit(
    network: nn.Module,
    train: Inputs,
    validation: Inputs,
    *,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[Run], None],
    learner: nn.Module | None = None,
    run: Run | None = None,
) -> Run:
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
        run = Run()
    else:
        _restore(run, learner, optimizer, generators, device)

    while len(run.history) < recipe.epochs and not _is_over(run, recipe.patience):
        started = time.perf_counter()
        learning_rate, train_losses = _train_epoch(
            network, learner, train, optimizer, generators, weights, len(run.history) + 1, recipe, device
        )
        logits = predict(network, validation, recipe.batch_size, device, recipe.precision)
        valid_loss = float(losses(logits, validation.labels.cpu()).mean())
        train_loss = _checked_mean(train_losses, valid_loss, len(run.history) + 1, len(train))
        run.epoch_s.append(time.perf_counter() - started)

        run.history.append(Epoch(len(run.history) + 1, learning_rate, train_loss, valid_loss))
        run.weights = learner.state_dict()
        if run.best_epoch == 0 or valid_loss < run.history[run.best_epoch - 1].valid_loss:
            run.best_epoch = len(run.history)
            run.best = {name: _kept(tensor) for name, tensor in run.weights.items()}
        run.moments = _moments(learner, optimizer)
        run.generators = _states(generators, device)
        run.peak_memory_mib = max(run.peak_memory_mib, devices.peak_memory_mib(device))
        on_epoch(run)
    return run


def _judged(
    network: nn.Module,
    train: Inputs,
    validation: Inputs,
    recipe: Recipe,
    device: torch.device,
    on_epoch: Callable[[Run], None],
) -> Run:
    """The run of a network that has nothing to learn: one epoch, in which it is looked at."""
    started = time.perf_counter()
    train_loss, valid_loss = (
        float(
            losses(
                predict(network, part, recipe.batch_size, device, recipe.precision), part.labels.cpu()
            ).mean()
        )
        for part in (train, validation)
    )
    run = Run(history=[Epoch(1, 0.0, train_loss, valid_loss)], best_epoch=1)
    run.epoch_s.append(time.perf_counter() - started)
    run.peak_memory_mib = devices.peak_memory_mib(device)
    on_epoch(run)
    return run


def _is_over(run: Run, patience: int | None) -> bool:
    return patience is not None and len(run.history) - run.best_epoch >= patience


def _train_epoch(
    network: nn.Module,
    learner: nn.Module,
    train: Inputs,
    optimizer: torch.optim.Optimizer,
    generators: dict[str, torch.Generator],
    weights: Float[Tensor, "classes"],
    epoch: int,
    recipe: Recipe,
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
            sample_losses = losses(_forward(network, *inputs, device, recipe.precision), labels[part])
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


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _moments(learner: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's state by parameter name."""
    return {
        f"{kind}.{name}": value
        for name, parameter in learner.named_parameters()
        for kind, value in optimizer.state[parameter].items()
    }


def _states(generators: dict[str, torch.Generator], device: torch.device) -> dict[str, Tensor]:
    """States of the run's generators, and of the global ones, which an operator's dropout would use."""
    states = {name: generator.get_state() for name, generator in generators.items()}
    states["cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _restore(
    run: Run,
    learner: nn.Module,
    optimizer: torch.optim.Optimizer,
    generators: dict[str, torch.Generator],
    device: torch.device,
) -> None:
    """Puts everything back where it was after the run's last epoch."""
    learner.load_state_dict(run.weights)
    for name, parameter in learner.named_parameters():
        # Moments lie in memory as their parameter does; only the count of steps is a number.
        optimizer.state[parameter] = {
            kind: torch.zeros_like(parameter, memory_format=torch.preserve_format).copy_(value)
            if (value := run.moments[f"{kind}.{name}"]).ndim
            else value.to(device)
            for kind in ("step", "exp_avg", "exp_avg_sq")
        }
    for name, generator in generators.items():
        generator.set_state(run.generators[name])
    torch.set_rng_state(run.generators["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(run.generators["cuda"], device)


@torch.no_grad()
def predict(
    network: nn.Module, inputs: Inputs, batch_size: int, device: torch.device, precision: str = "float32"
) -> Float[Tensor, "N K"]:
    """Logits of every sample, in order, on the CPU."""
    network.eval()
    inputs = inputs.to(device)
    batches = [
        _forward(
            network, *inputs.batch(range(start, min(start + batch_size, len(inputs)))), device, precision
        )
        for start in range(0, len(inputs), batch_size)
    ]
    return torch.cat(batches).float().cpu()


def _forward(
    network: nn.Module, rgb: Tensor, lidar: Tensor, device: torch.device, precision: str
) -> Float[Tensor, "B K"]:
    # Convolutions run faster on maps in channels-last layout.
    layout = torch.channels_last if rgb.ndim == 4 else torch.preserve_format
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return network(rgb.to(memory_format=layout), lidar.to(memory_format=layout))
