"""Trains one model with one seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import astuple

import torch
from torch import nn

from stages.lib.core import console
from stages.lib.core.errors import UserError
from stages.lib.models import devices
from stages.lib.models.inference import Inputs
from stages.lib.training import loop
from stages.lib.training.progress import SeedReport
from stages.lib.training.resume import Scratch
from stages.lib.training.settings import ComputeConfig, TrainConfig
from stages.lib.training.state import TrainState
from stages.lib.training.subsample import Subsample


def train_seed(
    build: Callable[[], nn.Module],
    inputs: Callable[[], tuple[Inputs, Inputs]],
    *,
    config: TrainConfig,
    compute: ComputeConfig,
    scratch: Scratch,
    seed: int,
    on_progress: Callable[[SeedReport], None],
    positions: Callable[[int], list[int]] | None = None,
    trainable: Callable[[nn.Module], nn.Module] | None = None,
) -> TrainState:
    """Trains one seed of one model, or resumes it, and returns its state without weights.

    Args:
        build: makes the untrained network; called after seeding.
        inputs: returns training and validation inputs.
        scratch: receives the state of the unfinished seed, and at the end its best weights.
        on_progress: called after each epoch.
        positions: returns the training samples that a seed sees; all of them by default.
        trainable: returns the part of the network that trains; all of it by default.

    Raises:
        UserError: when the loss diverges, or memory runs out.
    """
    finished = scratch.load_finished(seed)
    if finished is not None:
        return finished
    devices.prepare_process(compute.threads, tf32=compute.tf32)
    network = loop.seeded_build(build, seed)
    train, validation = inputs()
    if positions is not None:
        train = Subsample(train, positions(seed))
    if compute.compile is not None:
        torch.use_deterministic_algorithms(True)  # the compiler too
        network.compile(backend=compute.compile)
    num_epochs = config.num_epochs(len(train))
    saved_s = time.monotonic()

    def on_epoch(state: TrainState) -> None:
        nonlocal saved_s
        on_progress(_report(seed, state, num_epochs, len(train)))
        if time.monotonic() - saved_s >= compute.save_every_s and len(state.history) < num_epochs:
            try:
                scratch.save(seed, state)
                saved_s = time.monotonic()
            except OSError as error:
                console.report_line(
                    f"warning: {scratch.folder}: {error.strerror}: seed {seed} cannot be resumed after a kill"
                )
                saved_s = math.inf  # one warning, no further attempts

    saved = scratch.load(seed)
    if saved is not None:
        on_progress(_report(seed, saved, num_epochs, len(train), is_resumed=True))
    try:
        state = loop.fit(
            network,
            train,
            validation,
            config=config,
            seed=seed,
            device=compute.device,
            on_epoch=on_epoch,
            trainable=trainable(network) if trainable else None,
            state=saved,
        )
    except loop.Diverged as error:
        raise UserError(f"{error}; try a lower train.learning_rate, or train.clip_norm") from None
    except loop.OutOfMemory as error:
        raise UserError(
            f"{error}: out of memory; try a smaller train.batch_size or train.workers: 1"
        ) from None
    scratch.finish(seed, state)
    on_progress(_report(seed, state, num_epochs, len(train), is_done=True))
    # The weights are in a file; sending them between processes would take longer than an epoch.
    return TrainState(state.history, state.best_epoch, state.epoch_s, state.peak_memory_mib)


def _report(
    seed: int,
    state: TrainState,
    epochs: int,
    num_samples: int,
    *,
    is_done: bool = False,
    is_resumed: bool = False,
) -> SeedReport:
    last = state.history[-1]
    return SeedReport(
        seed=seed,
        epoch=last.epoch,
        epochs=epochs,
        train_loss=last.train_loss,
        valid_loss=last.valid_loss,
        samples_per_s=num_samples / state.epoch_s[-1],
        left_s=0.0 if is_done else (epochs - last.epoch) * state.epoch_s[-1],
        is_done=is_done,
        is_resumed=is_resumed,
        new=tuple(astuple(epoch) for epoch in (state.history if is_resumed else [last])),
    )
