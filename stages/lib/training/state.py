"""The state of a seed's training: all that is needed to resume after an epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Epoch:
    """One epoch's results; losses are means per sample, the training loss over the epoch's own steps."""

    epoch: int  # from 1
    learning_rate: float  # of the last step
    train_loss: float
    valid_loss: float


@dataclass
class TrainState:
    """A seed's training up to an epoch: resumed from it, training gives the same bits as without interruption."""

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    epoch_s: list[float] = field(default_factory=list)  # seconds of each epoch, training and validation
    peak_memory_mib: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)  # weights of the best epoch, on the CPU
    weights: dict[str, Tensor] = field(default_factory=dict)  # of the last epoch
    moments: dict[str, Tensor] = field(default_factory=dict)  # Adam's
    generators: dict[str, Tensor] = field(default_factory=dict)  # states of all random number generators


def cpu_copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def moments(trainable: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's state by parameter name."""
    return {
        f"{kind}.{name}": value
        for name, parameter in trainable.named_parameters()
        for kind, value in optimizer.state[parameter].items()
    }


def generator_states(generators: dict[str, torch.Generator], device: torch.device) -> dict[str, Tensor]:
    """States of the training's generators, and of the global ones, which a fusion's dropout would use."""
    states = {name: generator.get_state() for name, generator in generators.items()}
    states["cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore(
    state: TrainState,
    trainable: nn.Module,
    optimizer: torch.optim.Optimizer,
    generators: dict[str, torch.Generator],
    device: torch.device,
) -> None:
    """Restores weights, optimizer and generators as they were after the state's last epoch."""
    trainable.load_state_dict(state.weights)
    for name, parameter in trainable.named_parameters():
        # Moments have the memory layout of their parameter; the count of steps is a scalar.
        optimizer.state[parameter] = {
            kind: torch.zeros_like(parameter, memory_format=torch.preserve_format).copy_(value)
            if (value := state.moments[f"{kind}.{name}"]).ndim
            else value.to(device)
            for kind in ("step", "exp_avg", "exp_avg_sq")
        }
    for name, generator in generators.items():
        generator.set_state(state.generators[name])
    torch.set_rng_state(state.generators["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state.generators["cuda"], device)
