"""The search: every point of the grid is an experiment in DVC's queue, which trains all models with a few seeds.

Only training stages run, so nothing is measured on the test split. An experiment that has succeeded is a commit of
the workspace and is not repeated. One that failed or was killed is put into the queue again; models that it had
finished come from DVC's run cache.

S = seeds of the search
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from dvc.api import DVCFileSystem
from jaxtyping import Float

from scripts.studies import pieces, workspace
from scripts.studies.tune.experiments import Queue, count_finished
from scripts.studies.tune.grid import Point
from scripts.studies.tune.pace import Pace
from stages.lib.core import console
from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.models import records

_POLL_S = 2.0
_REPORT_EVERY_S = 20.0
_STARTS = 3  # of workers that end without having finished anything
# What a stage prints when a seed's loss diverges; other failures have other advice, or none.
_DIVERGED = re.compile(r"error: (\w+), seed \d+: .*; try a lower train\.learning_rate")
_NOBODY = "make tune"  # DVC wants an author


@dataclass
class Search:
    """What is searched, and how far it is."""

    queue: Queue
    points: Sequence[Point]
    kinds: Mapping[str, str]  # of the models that are trained, by name
    jobs: int  # experiments at once
    diverged: dict[str, set[str]] = field(
        default_factory=dict
    )  # models that a point cannot train, by its name

    def work_off(self) -> None:
        """Works until all points are done.

        Raises:
            UserError: when an experiment fails for another reason than a loss that diverges.
            TimeIsUp: when the command's time is over.
        """
        self.queue.stop()  # what an interrupted command has left
        fruitless = 0  # starts of workers, in a row, after which no more points were done
        while todo := self._todo():
            if fruitless == _STARTS:
                raise UserError(f"tune: DVC's workers ended {_STARTS} times before {todo[0].name} was done")
            try:
                for point in todo:
                    self._add(point)
                self.queue.start(min(self.jobs, len(todo)))
                self._watch()
            finally:
                self.queue.stop()
            fruitless = 0 if len(self._todo()) < len(todo) else fruitless + 1

    def _todo(self) -> list[Point]:
        done = self.queue.done()
        return [point for point in self.points if point.name not in done]

    def _add(self, point: Point) -> None:
        lost = self.diverged.get(point.name, set())
        # Without a target, DVC would run the whole pipeline.
        targets = ["check"] + [
            f"train_{kind}@{name}" for name, kind in self.kinds.items() if name not in lost
        ]
        self.queue.add(point.name, point.settings, targets)

    def _watch(self) -> None:
        """Reports progress until all points are done, or no worker is left."""
        names = {point.name for point in self.points}
        pace, total = Pace(), len(self.points) * len(self.kinds)
        reported_s = -_REPORT_EVERY_S
        while True:
            is_worked_on = self.queue.is_worked_on()  # before looking at what is done
            done = names & self.queue.done().keys()
            for name in sorted(names & self.queue.failed()):
                self._queue_without_diverged(name)
                is_worked_on = is_worked_on and self.queue.is_worked_on()
            running = [copy for name, copy in self.queue.running().items() if name not in done]
            finished = len(done) * len(self.kinds) + sum(map(count_finished, running))
            now_s = time.monotonic()
            if pace.update(min(finished, total), now_s) and now_s - reported_s >= _REPORT_EVERY_S:
                reported_s = now_s
                console.report_line(f"tune: search, {finished} of {total} models trained{pace.left(total)}")
            if done == names or not is_worked_on:
                return
            if pieces.left_s() == 0:
                raise pieces.TimeIsUp(f"in the search with {len(done)} of {len(names)} points done")
            time.sleep(_POLL_S)

    def _queue_without_diverged(self, name: str) -> None:
        """Puts a failed experiment into the queue again, without the model whose loss diverged there."""
        log = self.queue.log(name)
        model = diverged_model(log)
        if model is None:
            lines = [line for line in log.splitlines() if line.strip()]
            told = next((line for line in lines if line.startswith("error:")), (lines or ["no output"])[-1])
            raise UserError(f"tune: the experiment {name} failed: {told}")
        lost = self.diverged.setdefault(name, set())
        lost.add(model)
        if model in SENSORS:  # late fusions join its networks
            lost |= {fusion for fusion, kind in self.kinds.items() if kind == "late"}
        console.report_line(f"tune: {model} diverges at {name}; the search goes on without it there")
        self.queue.remove(name)
        self._add(next(point for point in self.points if point.name == name))


def run(
    home: Path,
    dataset: Path,
    settings: Sequence[str],
    points: Sequence[Point],
    kinds: Mapping[str, str],
    num_seeds: int,
    jobs: int,
) -> dict[str, dict[Point, Float[np.ndarray, "S"]]]:
    """Carries out the search, or what is left of it.

    Args:
        home: the study's folder.
        dataset: the dataset's folder.
        settings: overrides of params.yaml, with the seeds of the search.
        kinds: by model, the group of stages that trains it: unimodal, intermediate or late.
        num_seeds: of the search.
        jobs: number of experiments that run at once.

    Returns:
        By model and point, the validation loss of each seed's best epoch; infinite where a loss diverged.
    """
    folder = home / "search"
    home.mkdir(parents=True, exist_ok=True)
    workspace.prepare(Path.cwd(), folder, dataset, settings)
    commit(folder)
    search = Search(Queue(folder), points, kinds, jobs)
    search.work_off()
    commits = search.queue.done()
    by_point = {
        point: read_losses(folder, commits[point.name], home / "points" / point.name, list(kinds), num_seeds)
        for point in points
    }
    return {name: {point: losses[name] for point, losses in by_point.items()} for name in kinds}


def commit(folder: Path) -> None:
    """Exports the tensors in a workspace and commits all that experiments start from.

    The same content makes the same commit, so the experiments of an earlier command are found again.
    """
    workspace.run(["git", "update-index", "--no-skip-worktree", "params.yaml"], folder)
    for key, value in {
        "user.name": _NOBODY,
        "user.email": "tune@localhost",
        "commit.gpgsign": "false",
    }.items():
        workspace.run(["git", "config", key, value], folder)
    # Experiments run in copies, which would copy all tensors and weights.
    workspace.run(["dvc", "config", "--quiet", "cache.type", "reflink,hardlink,copy"], folder)
    workspace.run(["dvc", "repro", "--quiet", "export"], folder)
    workspace.run(["git", "add", "--all"], folder)
    date = "2000-01-01T00:00:00Z"
    done = subprocess.run(
        ["git", "commit", "--quiet", "--allow-empty", "--no-verify", "--message", "The search's settings"],
        cwd=folder,
        env=os.environ | {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date},
    )
    if done.returncode:
        raise UserError(f"`git commit` failed in {folder}; its own message is above")


def read_losses(
    folder: Path, commit: str, target: Path, models: Sequence[str], num_seeds: int
) -> dict[str, Float[np.ndarray, "S"]]:
    """The validation loss of each seed's best epoch, by model; infinite for a model that an experiment lacks.

    Args:
        folder: of the workspace.
        commit: of the experiment.
        target: the folder into which the histories are copied.
    """
    files = DVCFileSystem(str(folder), rev=commit)
    (target / records.HISTORY).mkdir(parents=True, exist_ok=True)
    found = {}
    for name in models:
        path = (records.HISTORY / f"{name}.csv").as_posix()
        try:
            (target / path).write_text(files.read_text(path))
        except FileNotFoundError:
            found[name] = np.full(num_seeds, np.inf)
            continue
        with chdir(target):
            found[name] = best_losses(records.read_history(name)["valid"])
    return found


def best_losses(losses: Float[np.ndarray, "S E"]) -> Float[np.ndarray, "S"]:
    """Of each seed's best epoch; NaN where a seed had stopped."""
    return np.nan_to_num(losses, nan=np.inf).min(axis=1)


def diverged_model(log: str) -> str | None:
    """The model whose training loss diverged; None where an experiment failed for another reason."""
    found = _DIVERGED.search(log)
    return found[1] if found else None
