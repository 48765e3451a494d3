"""Carries out the runs of a study, one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from dvc.repo import Repo

from scripts.studies import pieces, workspace
from scripts.studies.progress import Plan, Progress
from stages.lib.core.errors import UserError

TARGETS = ["headline", "report"]  # of every run
_GRACE_S = 30.0  # for a stage to end after a signal


@dataclass(frozen=True)
class Run:
    """A run of the whole pipeline."""

    name: str  # of its folder
    settings: tuple[str, ...]  # KEY=VALUE, overrides of params.yaml


def run_all(study: str, dataset: Path, runs: Sequence[Run]) -> Iterator[tuple[str, Path]]:
    """Carries out all runs, or what is left of them; yields each as soon as it has ended.

    Args:
        study: name of the study.
        dataset: the dataset's folder.
        runs: in their order; with different names.

    Yields:
        The name of the run and its folder, which is laid out like the project: params.yaml, dvc.lock, data/tensors
        and everything that its stages wrote to reports/. The folders last until the study has ended.

    Raises:
        UserError: when a setting is not valid or a stage fails.
        TimeIsUp: when the command's time is over.
    """
    project = Path.cwd()
    home = project / workspace.FOLDER / study
    home.mkdir(parents=True, exist_ok=True)
    folders = {run.name: home / run.name for run in runs}
    for run in runs:
        workspace.prepare(project, folders[run.name], dataset, run.settings)
    Plan(study, {name: stages_of(folder) for name, folder in folders.items()}).write(home)
    for name, folder in folders.items():
        _repro(home, name, folder)
        yield name, folder


def stages_of(folder: Path) -> list[str]:
    """The stages of a run in its workspace."""
    with chdir(folder), Repo() as repo:  # DVC looks for stages in the current folder
        found = {
            stage.addressing for target in TARGETS for stage in repo.stage.collect(target, with_deps=True)
        }
    return sorted(found)


def _repro(home: Path, name: str, folder: Path) -> None:
    """Runs `dvc repro` in a workspace, until its end or that of the command's time."""
    command = [sys.executable, "-m", "scripts.studies.dvc_process", str(os.getpid()), str(home), name]
    # In a session of its own: Ctrl-C reaches this process alone, which then ends the others in order.
    process = subprocess.Popen([*command, *TARGETS], cwd=folder, start_new_session=True)
    try:
        code = process.wait(pieces.left_s())
    except subprocess.TimeoutExpired:
        _stop(process)
        raise pieces.TimeIsUp(Progress.read(home, name).done_words()) from None
    except BaseException:
        _stop(process)
        raise
    if code:
        raise UserError(f"`dvc repro` failed in {folder.relative_to(Path.cwd())}; its own message is above")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupts DVC and its stage, which leaves its scratch files for going on; kills them if they do not end."""
    try:
        process.terminate()  # it reports no errors from here on
        os.killpg(process.pid, signal.SIGINT)
        process.wait(_GRACE_S)
    except ProcessLookupError:
        process.wait()
    except BaseException as error:  # also a second Ctrl-C
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
