"""Trains one model with one seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

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


def train_seed(
    build: Callable[[], nn.Module],
    inputs: Callable[[], tuple[Inputs, Inputs]],
    *,
    recipe: TrainConfig,
    setting: ComputeConfig,
    files: Scratch,
    seed: int,
    tell: Callable[[SeedReport], None],
    learner: Callable[[nn.Module], nn.Module] | None = None,
) -> TrainState:
    """One seed of one model, from wherever it stands to the best epoch.

    Args:
        build: makes the untrained network; called after seeding.
        inputs: gives training and validation inputs.
        files: where a finished seed's weights lie afterwards, and an unfinished one's state until then.
        tell: told of finished epochs.
        learner: the part of the network that trains; all of it by default.

    Raises:
        UserError: when the loss is no number any more, or memory runs out.
    """
    finished = files.load_finished(seed)
    if finished is not None:
        return finished
    devices.prepare_process(setting.threads, tf32=setting.tf32)
    network = loop.seeded_build(build, seed)
    train, validation = inputs()
    if setting.compile is not None:
        torch.use_deterministic_algorithms(True)  # the compiler too
        network.compile(backend=setting.compile)
    saved_s = time.monotonic()

    def on_epoch(run: TrainState) -> None:
        nonlocal saved_s
        tell(_report(seed, run, recipe.epochs, len(train)))
        if time.monotonic() - saved_s >= setting.save_every_s and len(run.history) < recipe.epochs:
            try:
                files.save(seed, run)
                saved_s = time.monotonic()
            except OSError as error:
                console.report_line(
                    f"warning: {files.folder}: {error.strerror}: a kill would lose seed {seed}"
                )
                saved_s = math.inf  # told once, not tried again

    saved = files.load(seed)
    if saved is not None:
        tell(_report(seed, saved, recipe.epochs, len(train), is_resumed=True))
    try:
        run = loop.fit(
            network,
            train,
            validation,
            recipe=recipe,
            seed=seed,
            device=setting.device,
            on_epoch=on_epoch,
            learner=learner(network) if learner else None,
            run=saved,
        )
    except loop.Diverged as error:
        raise UserError(f"{error}; try a lower train.learning_rate, or train.clip_norm") from None
    except loop.OutOfMemory as error:
        raise UserError(
            f"{error}: out of memory; try a smaller train.batch_size or train.workers: 1"
        ) from None
    files.finish(seed, run)
    tell(_report(seed, run, recipe.epochs, len(train), is_done=True))
    # The weights lie in a file; sending them between processes as well would take longer than an epoch.
    return TrainState(run.history, run.best_epoch, run.epoch_s, run.peak_memory_mib)


def _report(
    seed: int,
    run: TrainState,
    epochs: int,
    num_samples: int,
    *,
    is_done: bool = False,
    is_resumed: bool = False,
) -> SeedReport:
    last = run.history[-1]
    return SeedReport(
        seed=seed,
        epoch=last.epoch,
        epochs=epochs,
        train_loss=last.train_loss,
        valid_loss=last.valid_loss,
        samples_per_s=num_samples / run.epoch_s[-1],
        left_s=0.0 if is_done else (epochs - last.epoch) * run.epoch_s[-1],
        is_done=is_done,
        is_resumed=is_resumed,
    )
