"""Trains a model once per seed: one seed, and all at once, here or on a Dask cluster."""

from __future__ import annotations

import math
import os
import platform
import site
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from torch import nn

from stages.lib import terminal
from stages.lib.params import Train
from stages.lib.terminal import UserError, orphans
from stages.lib.terminal.progress import Report, SeedProgress
from stages.lib.training import devices, loop, scratch
from stages.lib.training.augmentation import Augmentation
from stages.lib.training.loop import Inputs, Recipe, Run
from stages.lib.training.scratch import Scratch

_SCHEDULER_ANSWERS_WITHIN = "20s"
_TOPIC = "fusion-training"  # of the scheduler's events, under which workers tell their progress


def recipe_of(train: Train, *, sensors: int = 2) -> Recipe:
    """The part of the settings that decides what is learned.

    Args:
        sensors: that the network sees. One that sees a single sensor has none to lose.
    """
    sensor_dropout = train.augment.sensor_dropout if sensors > 1 else 0.0
    return Recipe(
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
class Setting:
    """Where and how a seed is trained: all but the saving may change the last digits of a result."""

    device: torch.device
    threads: int
    tf32: bool
    compile: str | None  # a backend of torch.compile
    save_every_s: float


def setting_of(train: Train, device: torch.device) -> Setting:
    return Setting(device, train.threads, train.tf32, train.compile, train.save_every_s)


def open_scratch(
    name: str,
    seeds: list[int],
    recipe: Recipe,
    setting: Setting,
    *facts: object,
    inputs: Mapping[int, str] | None = None,
) -> Scratch:
    """Scratch files of a model's seeds under all that decides their weights.

    Args:
        inputs: by seed, what it learns from beside the data.
    """
    machine = (platform.machine(), torch.__version__, torch.backends.cpu.get_cpu_capability())
    computing = (setting.device.type, setting.threads, setting.tf32, setting.compile)
    return scratch.opened(name, seeds, inputs or {}, recipe, computing, machine, *facts)


def train_one(
    build: Callable[[], nn.Module],
    inputs: Callable[[], tuple[Inputs, Inputs]],
    *,
    recipe: Recipe,
    setting: Setting,
    files: Scratch,
    seed: int,
    tell: Callable[[Report], None],
    learner: Callable[[nn.Module], nn.Module] | None = None,
) -> Run:
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

    def on_epoch(run: Run) -> None:
        nonlocal saved_s
        tell(_report(seed, run, recipe.epochs, len(train)))
        if time.monotonic() - saved_s >= setting.save_every_s and len(run.history) < recipe.epochs:
            try:
                files.save(seed, run)
                saved_s = time.monotonic()
            except OSError as error:
                terminal.report_line(
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
    return Run(run.history, run.best_epoch, run.epoch_s, run.peak_memory_mib)


def _report(
    seed: int,
    run: Run,
    epochs: int,
    num_samples: int,
    *,
    is_done: bool = False,
    is_resumed: bool = False,
) -> Report:
    last = run.history[-1]
    return Report(
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


@dataclass(frozen=True)
class Workers:
    """Who trains."""

    backend: str
    scheduler: str | None  # address of a running Dask scheduler
    count: int  # seeds at once
    threads: int  # of each


def chosen(train: Train, num_seeds: int, device: torch.device) -> Workers:
    """The workers of params.yaml: "auto" is one per CPU core, or a single one on CUDA.

    Raises:
        UserError: when Dask is to train and no scheduler is named.
    """
    if train.backend == "dask" and train.scheduler is None:
        raise UserError("train.backend is dask: train.scheduler needs the address of a running scheduler")
    available = 1 if device.type == "cuda" else len(os.sched_getaffinity(0))
    wanted = available if train.workers == "auto" else train.workers
    return Workers(train.backend, train.scheduler, min(wanted, num_seeds), train.threads)


def train(name: str, job: Callable[..., Run], seeds: list[int], workers: Workers) -> dict[int, Run]:
    """Trains a model once per seed.

    Args:
        job: called with `seed` and with `tell`, to be told of each finished epoch.

    Raises:
        UserError: when seeds failed, once the others are done.
    """
    # A cluster's workers are nobody's children here.
    parent = os.getpid() if workers.backend == "loky" else None
    with SeedProgress(name, seeds) as progress, _engine(workers, progress) as (run, tell):
        try:
            with orphans.deaf_to_interrupts():
                coming = run([partial(_attempt, job, seed, tell, parent) for seed in seeds])
            outcomes = list(coming)
        except TerminatedWorkerError:
            raise UserError(
                f"{name}: a training process was killed, perhaps for want of memory, at {progress.latest()}; "
                "try train.workers: 1 or a smaller train.batch_size. Finished epochs are kept"
            ) from None
    finished = [outcome for outcome in outcomes if isinstance(outcome, Run)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if failures:
        more = f"; {len(finished)} of {len(seeds)} seeds are finished and kept" if finished else ""
        raise UserError("\n".join(f"{name}, {failure.reason}" for failure in failures) + more)
    return dict(zip(seeds, finished, strict=True))


@dataclass(frozen=True)
class Failure:
    """Of a seed that could not be trained."""

    reason: str


def _attempt(
    job: Callable[..., Run], seed: int, tell: Callable[[Report], None], parent: int | None
) -> Run | Failure:
    """A finished run, or what went wrong with it: a seed's failure must not end the others."""
    if parent not in (None, os.getpid()):
        orphans.end_with(parent)
    try:
        return job(seed=seed, tell=tell)
    except UserError as error:
        return Failure(f"seed {seed}: {error}")


Attempts = list[Callable[[], Run | Failure]]


@contextmanager
def _engine(
    workers: Workers, progress: SeedProgress
) -> Iterator[tuple[Callable[[Attempts], Iterable[Run | Failure]], Callable[[Report], None]]]:
    """A way to run attempts, whose outcomes come in the same order, and the way for one to tell its progress."""
    if workers.backend == "loky":
        with progress.queue() as tell:
            # One thread each is set by the jobs themselves, before their first computation.
            parallel = joblib.Parallel(n_jobs=workers.count, return_as="generator")
            yield lambda attempts: parallel(joblib.delayed(attempt)() for attempt in attempts), tell
        return
    from distributed import Client  # a second of import that only clusters need

    try:
        client = Client(workers.scheduler, timeout=_SCHEDULER_ANSWERS_WITHIN, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"train.scheduler: no Dask scheduler at {workers.scheduler} ({reason})") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=60)
        except TimeoutError:
            raise UserError(
                f"train.scheduler: the Dask scheduler at {workers.scheduler} has no worker"
            ) from None
        # Wherever scheduler and workers were started, they are to import this very project.
        client.run_on_scheduler(site.addsitedir, str(Path.cwd()))
        client.run(site.addsitedir, str(Path.cwd()))
        client.subscribe_topic(_TOPIC, lambda event: progress.show(Report(*event[1])))
        # Not by joblib, which would do all of it here where the cluster has a single thread.
        yield (
            lambda attempts: client.gather([client.submit(attempt, pure=False) for attempt in attempts]),
            _tell_scheduler,
        )


def _tell_scheduler(report: Report) -> None:
    """Tells the stage from a Dask worker, wherever that runs."""
    from distributed import get_worker

    get_worker().log_event(_TOPIC, tuple(report))
