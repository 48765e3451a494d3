"""A checkout of the project, and the commands that a user would type in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent.parent
PANDASET = ROOT.parent / "shared" / "realdata" / "pandaset"

# Small enough for seconds, large enough for every stage to have something to do.
TINY = {
    "seeds": [0, 51],
    "synthetic.groups": 40,
    "synthetic.splits": {"train": 0.5, "validation": 0.15, "test": 0.35},
    "export.image_size": 32,
    "network.unimodal_channels": [4, 4, 4],
    "network.intermediate_channels": [4, 4, 4],
    "network.hidden": [16, 8],
    "train.epochs": 2,
    "train.min_steps": 0,
    "train.patience": None,
    "train.batch_size": 8,
    "train.late.epochs": 3,
    "train.late.min_steps": 0,
    # In one process: nothing so small is worth starting another. Tests of parallel workers ask for two.
    "train.workers": 1,
    "report.draws": 500,
}


def as_user(folder: Path) -> dict[str, Any]:
    """Options of a process as a user starts it who has activated this environment; its output is one text."""
    names = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # Tests run side by side; a process with a thread for each core would only get in the others' way.
        "OMP_NUM_THREADS": "1",
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.com",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.com",
    }
    # Python's own defaults, no database of this process, and no word of a `make` that has started these tests.
    own = ("FIFTYONE_", "PYTHONDONTWRITEBYTECODE", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {
        "cwd": folder,
        "env": inherited | names,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }


class Project:
    """A checkout of the project and the commands that a user would type in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, check: bool = True, timeout: int = 600) -> subprocess.CompletedProcess[str]:
        """Runs a command in the project; its output comes back as text, stdout and stderr in one."""
        done = subprocess.run(command, timeout=timeout, **as_user(self.folder))
        assert not check or done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-4000:]}"
        return done

    def set(self, **values: object) -> None:
        """Sets keys of params.yaml; a dot in a key is written as two underscores."""
        set_params(self.folder, {key.replace("__", "."): value for key, value in values.items()})

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def changed_files(self) -> list[str]:
        """Tracked files that differ from the last commit."""
        return self.run("git", "diff", "--name-only", "HEAD").stdout.split()

    def path(self, name: str) -> Path:
        return self.folder / name

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()


def set_params(folder: Path, values: dict[str, object]) -> None:
    yaml = YAML()
    content = yaml.load(folder / "params.yaml")
    for key, value in values.items():
        *groups, last = key.split(".")
        group = content
        for name in groups:
            group = group[name]
        assert last in group, f"params.yaml has no key {key}"
        group[last] = value
    yaml.dump(content, folder / "params.yaml")


def copy_working_tree(target: Path) -> None:
    """The project's files as they stand, without what it ignores and without its results."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if name == "dvc.lock" or name.startswith("reports/") or not (ROOT / name).is_file():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)


def clone_of(project: Project, folder: Path) -> Project:
    """A copy of a project as it stands, with a cache of its own, but without what training left for going on.

    DVC puts new files in the place of cached ones, so these may be links; all other files are copies.
    """
    left_out = shutil.ignore_patterns(".scratch", ".fiftyone", "tmp", "cache")
    shutil.copytree(project.folder, folder, symlinks=True, ignore=left_out)
    shutil.copytree(project.path(".dvc/cache"), folder / ".dvc" / "cache", copy_function=os.link)
    return Project(folder)


def committed(name: str) -> str:
    """A file of the last commit: what stands in the folder may be another machine's results by now."""
    done = subprocess.run(["git", "show", f"HEAD:{name}"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{name} is not committed here, so there is nothing to compare with")
    return done.stdout
