"""Set-up: the errors that `make` shows before it installs anything, and the versions that it installs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.project import ROOT, as_user


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = as_user(folder)
    options["env"] |= {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return subprocess.run(["make", *arguments], timeout=60, **options)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An unpacked archive of the project, without .git."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.parametrize("target", ["repro", "test"])
def test_without_a_repository_the_error_says_what_to_do(archive: Path, target: str) -> None:
    done = make(archive, target)
    assert done.returncode != 0
    first = done.stdout.splitlines()[0]
    assert first.startswith("error: this folder is no Git repository") and "git init" in first
    assert not (archive / ".venv").exists(), "it began to install"


def test_both_remedies_work(archive: Path) -> None:
    (archive / ".dvc").mkdir()
    (archive / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    assert make(archive, "checkout").returncode == 0
    shutil.rmtree(archive / ".dvc")
    subprocess.run(["git", "init", "--quiet", str(archive)], check=True)
    assert make(archive, "checkout").returncode == 0


def test_installing_tells_its_steps() -> None:
    steps = re.findall(r'echo "\[(\d+)/(\d+)\]', (ROOT / "Makefile").read_text())
    assert [int(step) for step, _ in steps] == list(range(1, len(steps) + 1))
    assert {int(total) for _, total in steps} == {len(steps)}


def test_packages_that_compute_or_broke_before_are_pinned() -> None:
    """Two installations a month apart give the same numbers, and the same DVC."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if re.match(r"[\w.\-]+==[\w.]+", line)}
    computing = {"torch", "numpy", "scipy", "scikit-learn", "statsmodels", "pillow", "pyarrow", "matplotlib"}
    computing |= {"trimesh", "embreex", "safetensors", "pypcd4"}
    breaking = {"dvc", "pathspec", "dulwich", "celery", "fiftyone", "ruamel.yaml", "ruamel.yaml.clib"}
    assert computing | breaking <= pinned
