"""The training loop, for whole networks and for late fusion's head alike.

B = batch;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import random
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.terminal import UserError

# Parameters of glibc's mallopt (man 3 mallopt).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


class Diverged(Exception):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Recipe:
    """How to train; the meaning and unit of each value stand in params.yaml."""

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    precision: str


@dataclass(frozen=True)
class Epoch:
    """One epoch's outcome; losses are means per sample, the first over the epoch's own steps."""

    epoch: int  # from 1
    learning_rate: float  # of the last step
    train_loss: float
    valid_loss: float


@dataclass(frozen=True)
class Outcome:
    """A finished training run of one seed."""

    history: list[Epoch]
    best_epoch: int
    weights: dict[str, Tensor]  # of the best epoch
    epoch_s: list[float]  # seconds of each epoch, training and validation
    peak_memory_mib: float


@runtime_checkable
class Inputs(Protocol):
    """What a network learns from: two inputs and a label per sample."""

    labels: Int[Tensor, "N"]

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]: ...


class CachedLogits:
    """Logits of two frozen nets, each computed once per sample rather than once per epoch."""

    def __init__(
        self, rgb: Float[Tensor, "N K"], lidar: Float[Tensor, "N K"], labels: Int[Tensor, "N"]
    ) -> None:
        self._rgb, self._lidar, self.labels = rgb, lidar, labels

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int]) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
        return self._rgb[indices], self._lidar[indices]


def choose_device(name: str) -> torch.device:
    """The device for `train.device`; "auto" takes CUDA when there is one.

    Raises:
        UserError: when CUDA is asked for and not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device is cuda, but PyTorch finds no CUDA device; set it to auto or cpu")
    return torch.device(name)


def prepare_process(threads: int) -> None:
    """Fixes everything that could make two runs differ, and keeps memory; call once per process."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Filling every new tensor is for finding reads of unset memory, and takes a fifth of an epoch.
    torch.utils.deterministic.fill_uninitialized_memory = False
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Lets this process reuse large blocks that it frees.

    By default glibc hands them back to the kernel, and each step faults the same pages in anew: 12 to
    25 % of a step's time on two cores.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def seeded_build(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Builds a network whose initial weights depend on the seed alone."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return build()


def loss(
    logits: Float[Tensor, "B K"], labels: Int[Tensor, "B"], reduction: str = "mean"
) -> Float[Tensor, "..."]:
    """Cross-entropy in nats: binary from one logit, else over the classes."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], labels.float(), reduction=reduction)
    return F.cross_entropy(logits, labels, reduction=reduction)


def learning_rate_at(step: int, num_steps: int, recipe: Recipe) -> float:
    """Learning rate of a step, counted from 0.

    one-cycle: a linear rise over the first 30 % of the steps, then half a cosine down to zero
    (Smith and Topin 2017, arXiv 1708.07120, in the form that fast.ai made common).
    """
    if recipe.schedule == "constant":
        return recipe.learning_rate
    rise = 0.3 * num_steps
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
    on_epoch: Callable[[Epoch], None],
) -> Outcome:
    """Trains a network with Adam and keeps the weights of the epoch with the least validation loss.

    Args:
        seed: fixes the order of the data; the network comes with its initial weights.
        on_epoch: told each epoch's outcome as soon as it is known.

    Raises:
        Diverged: when the validation loss is no longer a finite number.
    """
    network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    order = torch.Generator().manual_seed(seed)
    num_steps = recipe.epochs * math.ceil(len(train) / recipe.batch_size)
    history: list[Epoch] = []
    epoch_s: list[float] = []
    weights: dict[str, Tensor] = {}
    best = math.inf
    best_epoch = 0
    step = 0
    _reset_peak_memory(device)

    for epoch in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        network.train()
        train_loss = torch.zeros((), device=device)
        learning_rate = recipe.learning_rate
        for indices in torch.randperm(len(train), generator=order).split(recipe.batch_size):
            learning_rate = learning_rate_at(step, num_steps, recipe)
            optimizer.param_groups[0]["lr"] = learning_rate
            logits = _forward(network, train, indices.tolist(), device, recipe.precision)
            batch_loss = loss(logits, train.labels[indices].to(device))
            optimizer.zero_grad()
            batch_loss.backward()
            optimizer.step()
            train_loss += batch_loss.detach() * len(indices)
            step += 1
        valid_logits = predict(network, validation, recipe.batch_size, device, recipe.precision)
        valid_loss = float(loss(valid_logits, validation.labels))
        epoch_s.append(time.perf_counter() - started)

        if not math.isfinite(valid_loss):
            raise Diverged(f"validation loss is {valid_loss} in epoch {epoch}")
        outcome = Epoch(epoch, learning_rate, float(train_loss) / len(train), valid_loss)
        history.append(outcome)
        if valid_loss < best:
            best, best_epoch = valid_loss, epoch
            weights = {
                name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
                for name, tensor in network.state_dict().items()
            }
        on_epoch(outcome)

    return Outcome(history, best_epoch, weights, epoch_s, _peak_memory_mib(device))


@torch.no_grad()
def predict(
    network: nn.Module, inputs: Inputs, batch_size: int, device: torch.device, precision: str = "float32"
) -> Float[Tensor, "N K"]:
    """Logits of every sample, in order, on the CPU."""
    network.eval()
    batches = [
        _forward(network, inputs, range(start, min(start + batch_size, len(inputs))), device, precision)
        for start in range(0, len(inputs), batch_size)
    ]
    return torch.cat(batches).float().cpu()


def _forward(
    network: nn.Module, inputs: Inputs, indices: Sequence[int], device: torch.device, precision: str
) -> Float[Tensor, "B K"]:
    rgb, lidar = (_placed(tensor, device) for tensor in inputs.batch(indices))
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return network(rgb, lidar)


def _placed(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device; maps in channels-last layout, in which convolutions run faster."""
    layout = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
    return tensor.to(device, non_blocking=True, memory_format=layout)


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access("/proc/self/clear_refs", os.W_OK):
        # Linux: 5 resets the peak resident size of this process (man 5 proc).
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mib(device: torch.device) -> float:
    """Peak since the reset: allocated on the GPU, or resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
