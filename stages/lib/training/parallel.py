"""Trains all seeds of a model, several at a time, here or on a Dask cluster."""

from __future__ import annotations

import os
import site
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from stages.lib.core import processes
from stages.lib.core.errors import UserError
from stages.lib.params import Train
from stages.lib.training.progress import SeedProgress, SeedReport
from stages.lib.training.state import TrainState

_SCHEDULER_ANSWERS_WITHIN = "20s"
_TOPIC = "fusion-training"  # of the scheduler's events, under which workers tell their progress


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


def train(
    name: str, job: Callable[..., TrainState], seeds: list[int], workers: Workers
) -> dict[int, TrainState]:
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
            with processes.sigint_blocked():
                coming = run([partial(_attempt, job, seed, tell, parent) for seed in seeds])
            outcomes = list(coming)
        except TerminatedWorkerError:
            raise UserError(
                f"{name}: a training process was killed, perhaps for want of memory, at {progress.latest()}; "
                "try train.workers: 1 or a smaller train.batch_size. Finished epochs are kept"
            ) from None
    finished = [outcome for outcome in outcomes if isinstance(outcome, TrainState)]
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
    job: Callable[..., TrainState], seed: int, tell: Callable[[SeedReport], None], parent: int | None
) -> TrainState | Failure:
    """A finished run, or what went wrong with it: a seed's failure must not end the others."""
    if parent not in (None, os.getpid()):
        processes.exit_with_parent(parent)
    try:
        return job(seed=seed, tell=tell)
    except UserError as error:
        return Failure(f"seed {seed}: {error}")


Attempts = list[Callable[[], TrainState | Failure]]


@contextmanager
def _engine(
    workers: Workers, progress: SeedProgress
) -> Iterator[tuple[Callable[[Attempts], Iterable[TrainState | Failure]], Callable[[SeedReport], None]]]:
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
        client.subscribe_topic(_TOPIC, lambda event: progress.show(SeedReport(*event[1])))
        # Not by joblib, which would do all of it here where the cluster has a single thread.
        yield (
            lambda attempts: client.gather([client.submit(attempt, pure=False) for attempt in attempts]),
            _tell_scheduler,
        )


def _tell_scheduler(report: SeedReport) -> None:
    """Tells the stage from a Dask worker, wherever that runs."""
    from distributed import get_worker

    get_worker().log_event(_TOPIC, tuple(report))
