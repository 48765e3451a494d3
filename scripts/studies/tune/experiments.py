"""DVC's queue of experiments in one workspace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from dvc.repo import Repo

from scripts.studies.dvc_process import end_orphans
from stages.lib.core.errors import UserError

_TASKS = Path(".dvc/tmp/exps")  # DVC's: copies of the workspace, one for each running experiment
_WORKERS = _TASKS / "celery"  # DVC's: the files of its worker processes
_MESSAGES = _WORKERS / "broker"  # DVC's: what its processes send each other
_START_S = 60.0  # for a worker to write its file
_GRACE_S = 20.0  # for workers to end


class Queue:
    """The queue of a workspace, whose last commit all experiments start from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.baseline = self._output(["git", "rev-parse", "HEAD"]).strip()

    def done(self) -> dict[str, str]:
        """The commits of the experiments that have succeeded, in this process or an earlier one, by name."""
        place = f"refs/exps/{self.baseline[:2]}/{self.baseline[2:]}/"
        lines = self._output(["git", "for-each-ref", "--format=%(refname:lstrip=-1) %(objectname)", place])
        return dict(line.split() for line in lines.splitlines())

    def failed(self) -> set[str]:
        """Names of the tasks that have failed since the queue was cleared."""
        try:
            with Repo(self.folder) as repo:
                return {str(task.entry.name) for task in repo.experiments.celery_queue.iter_failed()}
        except ValueError:  # a worker is just writing one of these files
            return set()

    def add(self, name: str, settings: Sequence[str], targets: Sequence[str]) -> None:
        """Puts an experiment into the queue."""
        options = [part for setting in settings for part in ("--set-param", setting)]
        self._dvc("exp", "run", "--queue", "--name", name, *options, *targets)

    def start(self, count: int) -> None:
        """Starts workers, which end when the queue is empty."""
        # No pipes: workers inherit them, and reading would last as long as they do.
        self._dvc("queue", "start", "--jobs", str(count), quiet=True)
        deadline_s = time.monotonic() + _START_S
        while not self.is_worked_on() and time.monotonic() < deadline_s:
            time.sleep(0.1)

    def is_worked_on(self) -> bool:
        """Whether a worker is alive."""
        return bool(self._workers())

    def stop(self) -> None:
        """Ends all workers and their experiments, and empties the queue; what has succeeded stays."""
        if not (self.folder / _WORKERS).is_dir():
            return
        self._dvc("queue", "stop", "--kill")
        _, alive = psutil.wait_procs(self._workers(), _GRACE_S)
        for worker in alive:
            worker.kill()
        self._dvc("queue", "remove", "--all")
        # It may hold DVC's order to stop, unread: the next worker would obey it after one experiment.
        shutil.rmtree(self.folder / _MESSAGES, ignore_errors=True)
        for copy in self.copies():
            end_orphans(copy)
            shutil.rmtree(copy, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Forgets a failed task, so that its name is free again."""
        self._dvc("queue", "remove", name)

    def log(self, name: str) -> str:
        """What the stages of a task have printed."""
        return self._output([sys.executable, "-m", "dvc", "queue", "logs", name])

    def copies(self) -> list[Path]:
        """The folders in which experiments run or have run."""
        return sorted((self.folder / _TASKS).glob("tmp*"))

    def running(self) -> dict[str, Path]:
        """The folder of each experiment that runs, by name; also of one just done, until DVC removes it."""
        found = {}
        for path in (self.folder / _TASKS / "run").glob("*/*.run"):
            try:
                task = json.loads(path.read_text())
            except ValueError:  # DVC is just writing it
                continue
            if Path(task["root_dir"]).is_dir():
                found[task["name"]] = Path(task["root_dir"])
        return found

    def _workers(self) -> list[psutil.Process]:
        found = []
        for path in (self.folder / _WORKERS).glob("dvc-exp-worker-*.json"):
            try:
                process = psutil.Process(json.loads(path.read_text())["pid"])
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, ValueError):  # it has ended, or its file is just being written
                continue
        return found

    def _dvc(self, *arguments: str, quiet: bool = False) -> None:
        """Runs a command of DVC; shows what it printed only when it fails."""
        command = [sys.executable, "-m", "dvc", *arguments]
        pipe = subprocess.DEVNULL if quiet else subprocess.PIPE
        done = subprocess.run(command, cwd=self.folder, stdout=pipe, stderr=pipe, text=True)
        if done.returncode:
            print(done.stderr or "", file=sys.stderr)
            raise UserError(f"`dvc {' '.join(arguments[:2])}` failed in {self.folder}")

    def _output(self, command: list[str]) -> str:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        return done.stdout + (done.stderr if done.returncode else "")


def count_finished(copy: Path) -> int:
    """Models that an experiment has trained so far, or found trained in DVC's cache."""
    try:
        lines = (copy / "dvc.lock").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return sum(line.startswith("  train_") for line in lines)
