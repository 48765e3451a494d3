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
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest
from stages.lib.training.progress import OnEpochs, SeedProgress, SeedReport
from stages.lib.training.state import TrainState

_MOST_SEEDS_ON_CUDA = 4  # they kept an H200 busy for 97 % of the time (benchmarks/README.md)
# For a seed besides its data. The most that was measured is 2 GiB, without CUDA's own memory in each process.
_CUDA_SEED_BYTES = 3 * 2**30
_SCHEDULER_TIMEOUT = "20s"
_TOPIC = "fusion-training"  # of the scheduler's events by which workers report progress


@dataclass(frozen=True)
class Workers:
    """The processes that train."""

    backend: str
    scheduler: str | None  # address of a running Dask scheduler
    count: int  # seeds at once
    threads: int  # of each


def choose_workers(train: Train, num_seeds: int, device: torch.device, manifest: Manifest) -> Workers:
    """The workers of params.yaml: "auto" is one per CPU core, on CUDA at most `seeds_on_cuda`.

    Raises:
        UserError: when the backend is Dask and no scheduler is named.
    """
    if train.backend == "dask" and train.scheduler is None:
        raise UserError("train.backend is dask: train.scheduler needs the address of a running scheduler")
    wanted = len(os.sched_getaffinity(0)) if train.workers == "auto" else train.workers
    if train.workers == "auto" and device.type == "cuda":
        shards = [name for split in ("train", "validation") for name in manifest.shards[split]]
        data_bytes = sum((manifests.FOLDER / name).stat().st_size for name in shards)
        free_bytes, _ = torch.cuda.mem_get_info(device)
        wanted = min(wanted, seeds_on_cuda(free_bytes, data_bytes))
    return Workers(train.backend, train.scheduler, min(wanted, num_seeds), train.threads)


def seeds_on_cuda(free_bytes: int, data_bytes: int) -> int:
    """How many seeds train at once on one device, each in a process with its own copy of the data; at least one."""
    return max(1, min(_MOST_SEEDS_ON_CUDA, free_bytes // (_CUDA_SEED_BYTES + data_bytes)))


def train(
    name: str,
    job: Callable[..., TrainState],
    seeds: list[int],
    workers: Workers,
    on_epochs: OnEpochs = lambda seed, epochs: None,
) -> dict[int, TrainState]:
    """Trains a model once per seed.

    Args:
        job: called with `seed` and `on_progress`, which it calls after each epoch.
        on_epochs: called in this process, whatever the backend, with a seed and its new epochs; of a seed that was
            finished before, with all of them at the end.

    Raises:
        UserError: when seeds failed, once the others have finished.
    """
    # A cluster's workers are not child processes of this one.
    parent = os.getpid() if workers.backend == "loky" else None
    with SeedProgress(name, seeds, on_epochs) as progress, _engine(workers, progress) as (run, on_progress):
        try:
            with processes.sigint_blocked():
                results = run([partial(_attempt, job, seed, on_progress, parent) for seed in seeds])
            results = list(results)
        except TerminatedWorkerError:
            raise UserError(
                f"{name}: a training process was killed, perhaps because memory ran out, at {progress.latest()}; "
                "try train.workers: 1 or a smaller train.batch_size. Finished epochs are kept"
            ) from None
    for seed, result in zip(seeds, results, strict=True):
        if isinstance(result, TrainState):
            progress.pass_on(seed, result.history)
    finished = [result for result in results if isinstance(result, TrainState)]
    failures = [result for result in results if isinstance(result, Failure)]
    if failures:
        more = f"; {len(finished)} of {len(seeds)} seeds are finished and kept" if finished else ""
        raise UserError("\n".join(f"{name}, {failure.reason}" for failure in failures) + more)
    return dict(zip(seeds, finished, strict=True))


@dataclass(frozen=True)
class Failure:
    """The result of a seed whose training failed."""

    reason: str


def _attempt(
    job: Callable[..., TrainState], seed: int, on_progress: Callable[[SeedReport], None], parent: int | None
) -> TrainState | Failure:
    """The state of a trained seed, or its failure, which must not end the other seeds."""
    if parent not in (None, os.getpid()):
        processes.exit_with_parent(parent)
    try:
        return job(seed=seed, on_progress=on_progress)
    except UserError as error:
        return Failure(f"seed {seed}: {error}")


Attempts = list[Callable[[], TrainState | Failure]]


@contextmanager
def _engine(
    workers: Workers, progress: SeedProgress
) -> Iterator[tuple[Callable[[Attempts], Iterable[TrainState | Failure]], Callable[[SeedReport], None]]]:
    """A function that runs attempts and returns their results in order, and the function that reports progress."""
    if workers.backend == "loky":
        with progress.queue() as on_progress:
            # The jobs set their number of threads themselves, before their first computation.
            parallel = joblib.Parallel(n_jobs=workers.count, return_as="generator")
            yield lambda attempts: parallel(joblib.delayed(attempt)() for attempt in attempts), on_progress
        return
    from distributed import Client  # takes a second, and only clusters need it

    try:
        client = Client(workers.scheduler, timeout=_SCHEDULER_TIMEOUT, set_as_default=False)
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
        # Scheduler and workers must import this project, wherever they were started.
        client.run_on_scheduler(site.addsitedir, str(Path.cwd()))
        client.run(site.addsitedir, str(Path.cwd()))
        client.subscribe_topic(_TOPIC, lambda event: progress.show(SeedReport(*event[1])))
        # Not by joblib, which trains in this process if the cluster has a single thread.
        yield (
            lambda attempts: client.gather([client.submit(attempt, pure=False) for attempt in attempts]),
            _report_to_scheduler,
        )


def _report_to_scheduler(report: SeedReport) -> None:
    """Reports progress from a Dask worker, on whatever machine it runs."""
    from distributed import get_worker

    get_worker().log_event(_TOPIC, tuple(report))
