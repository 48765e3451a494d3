"""The workspace of a run: a clone of the project in .studies/STUDY/RUN/ that shares the project's DVC cache.

It stays until the study has ended, with its own params.yaml, dvc.lock, outputs and scratch files, so `dvc repro` in
it goes on where it was. At every start it gets the project's files as they stand, committed or not.
"""

from __future__ import annotations

import filecmp
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dvc.repo import Repo

from scripts import restore_lock
from scripts.studies import parameters
from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.datasets import synthetic

FOLDER = Path(".studies")
# What a workspace's own runs write.
_LOCK, _RESULTS = "dvc.lock", "reports/"


def prepare(project: Path, folder: Path, dataset: Path, settings: Sequence[str]) -> None:
    """Makes a workspace, or brings it up to date.

    Args:
        project: the project's root folder.
        folder: the workspace.
        dataset: the dataset's folder.
        settings: overrides of params.yaml.

    Raises:
        UserError: when a setting is malformed, its key does not exist or its value is not valid.
    """
    if not folder.is_dir():
        new = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)  # of a start that was killed
        run(["git", "clone", "--quiet", "--no-checkout", str(project), str(new)], project)
        new.rename(folder)
    _bring_revision(project, folder)
    _bring_files(project, folder)
    _share_cache(project, folder)
    path = _link_dataset(dataset, folder)
    _hide_settings(folder)
    parameters.apply([f"dataset.path={path}", *settings], folder)
    params.load(folder / "params.yaml")
    mend(folder)


def mend(folder: Path) -> None:
    """Removes files that DVC was killed while it wrote them; results come back from DVC's run cache."""
    lock = folder / _LOCK
    if lock.is_file() and not restore_lock.is_whole(lock):
        lock.unlink()
    (folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)  # which stages are running: none


def keep(study: str, name: str, choose: Callable[[], str]) -> str:
    """A choice that is made once for a study, since another one at a later start would train everything anew."""
    path = FOLDER / study / f"{name}.txt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(choose())
        new.replace(path)
    return path.read_text()


def remove(study: str) -> None:
    """Removes a study's workspaces."""
    shutil.rmtree(FOLDER / study, ignore_errors=True)
    with suppress(OSError):  # other studies have workspaces
        FOLDER.rmdir()


def dataset_path(dataset: Path) -> str:
    """The dataset's path in a workspace, which does not contain the folder's own location."""
    if dataset.resolve() == synthetic.FOLDER.resolve():
        return synthetic.FOLDER.as_posix()  # the workspace's own stage makes it
    # Overrides have their own grammar; plain names need no quoting.
    return f"data/{re.sub(r'[^A-Za-z0-9._-]+', '-', dataset.resolve().name)}"


def run(command: list[str], folder: Path) -> None:
    """Runs a command that reports its errors itself."""
    if subprocess.run(command, cwd=folder).returncode:
        raise UserError(f"`{' '.join(command[:3])}` failed; its own message is above")


def _bring_revision(project: Path, folder: Path) -> None:
    """Moves the workspace to the project's commit; files stay as they are."""
    (folder / ".git/index.lock").unlink(missing_ok=True)  # of a start that was killed
    head = ["git", "rev-parse", "--quiet", "--verify", "HEAD"]
    if subprocess.run(head, cwd=project, stdout=subprocess.DEVNULL).returncode:
        return  # nothing is committed
    run(["git", "fetch", "--quiet", str(project), "HEAD"], folder)
    subprocess.run(
        ["git", "update-index", "--no-skip-worktree", "params.yaml"], cwd=folder, stderr=subprocess.DEVNULL
    )
    run(["git", "reset", "--quiet", "--mixed", "FETCH_HEAD"], folder)


def _bring_files(project: Path, folder: Path) -> None:
    """Copies the project's files that differ, and removes those that the project no longer has."""
    wanted = set()
    for name in _listed(project):
        if (project / name).is_file():
            wanted.add(name)
            source, target = project / name, folder / name
            if not (target.is_file() and filecmp.cmp(source, target)):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
    for name in _listed(folder):
        if name not in wanted:
            (folder / name).unlink(missing_ok=True)


def _listed(folder: Path) -> list[str]:
    """Files that Git tracks or would track, without those that runs write."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=folder, check=True, capture_output=True, text=True).stdout
    return [name for name in names.split("\0") if name and name != _LOCK and not name.startswith(_RESULTS)]


def _share_cache(project: Path, folder: Path) -> None:
    """Makes the workspace use the project's cache, by links where the file system has them."""
    with Repo(project) as repo:
        cache = repo.cache.local_cache_dir
    (folder / ".dvc" / "config.local").write_text(
        f"[cache]\n    dir = {cache}\n    type = reflink,hardlink,copy\n"
    )


def _link_dataset(dataset: Path, folder: Path) -> str:
    """Links the dataset into the workspace; returns its path there."""
    path = dataset_path(dataset)
    link = folder / path
    link.parent.mkdir(exist_ok=True)
    if path != synthetic.FOLDER.as_posix():
        link.unlink(missing_ok=True)
        link.symlink_to(dataset.resolve(), target_is_directory=True)
    return path


def _hide_settings(folder: Path) -> None:
    """Makes Git ignore later changes of the workspace's params.yaml.

    The report lists all of them, so the code still counts as that of its revision. The user's own uncommitted changes
    of that file stay visible.
    """
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "params.yaml"], cwd=folder).returncode == 0:
        run(["git", "update-index", "--skip-worktree", "params.yaml"], folder)
