"""Workspaces of studies: what they take from the project at every start, and what they keep."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.project import Project, copy_working_tree

from scripts.studies import command, dvc_process, pieces, workspace
from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.training import outputs

SYNTHETIC = Path("data/synthetic")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project's files in a repository of their own, without a run."""
    project = Project(tmp_path_factory.mktemp("studies") / "project")
    project.folder.mkdir()
    copy_working_tree(project.folder)
    project.run("git", "init", "--quiet", "--initial-branch", "main")
    project.path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    project.path("reports").mkdir()
    project.path("reports/report.md").write_text("committed\n")
    project.commit("Without a run")
    return project


@pytest.fixture
def in_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(project.folder)
    project.run("git", "checkout", "--quiet", "--", ".")
    project.run("git", "clean", "--quiet", "--force", "-d")
    return project


def test_a_workspace_takes_the_projects_files_and_keeps_its_own(
    in_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = in_project.path(".studies/some/run")
    workspace.prepare(in_project.folder, folder, SYNTHETIC, ["seeds=[3]", "train.epochs=7"])
    settings = params.load(folder / "params.yaml")
    assert (settings.seeds, settings.train.epochs, settings.dataset.path) == ([3], 7, "data/synthetic")
    assert not (folder / "dvc.lock").exists() and not (folder / "reports").exists()
    commit = in_project.run("git", "rev-parse", "HEAD").stdout.strip()
    monkeypatch.chdir(folder)
    assert outputs._revision() == commit
    monkeypatch.chdir(in_project.folder)

    own = {
        "dvc.lock": "schema: '2.0'\nstages: {}\n",
        "reports/report.md": "own\n",
        ".scratch/a": "",
        "models/b": "",
    }
    for name, text in own.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    changed, gone, new = (
        "stages/lib/fusions/addition.py",
        "stages/lib/fusions/hadamard.py",
        "stages/lib/new.py",
    )
    in_project.path(changed).write_text("# changed\n")
    in_project.path(gone).unlink()
    in_project.path(new).write_text("# new\n")
    workspace.prepare(in_project.folder, folder, SYNTHETIC, ["seeds=[4]"])
    assert (folder / changed).read_text() == "# changed\n"
    assert (folder / new).is_file() and not (folder / gone).exists()
    settings = params.load(folder / "params.yaml")
    assert settings.seeds == [4] and settings.train.epochs == params.load().train.epochs
    assert {name: (folder / name).read_text() for name in own} == own
    monkeypatch.chdir(folder)
    assert outputs._revision() == f"{commit}+"
    monkeypatch.chdir(in_project.folder)

    in_project.commit("Other code")
    later = in_project.run("git", "rev-parse", "HEAD").stdout.strip()
    workspace.prepare(in_project.folder, folder, SYNTHETIC, ["seeds=[4]"])
    monkeypatch.chdir(folder)
    assert later != commit and outputs._revision() == later
    monkeypatch.chdir(in_project.folder)
    in_project.run("git", "reset", "--quiet", "--hard", commit)
    workspace.prepare(in_project.folder, folder, SYNTHETIC, ["seeds=[4]"])
    assert (folder / gone).is_file() and not (folder / new).exists()
    assert in_project.run("git", "status", "--porcelain").stdout == ""
    workspace.remove("some")
    assert not in_project.path(".studies").exists()


def test_a_lock_file_cut_off_is_removed(in_project: Project) -> None:
    folder = in_project.path(".studies/some/run")
    workspace.prepare(in_project.folder, folder, SYNTHETIC, [])
    (folder / "dvc.lock").write_text("schema: '2.0'\nstages:\n  export:\n    cmd: exec\n    deps:\n    - pa")
    workspace.prepare(in_project.folder, folder, SYNTHETIC, [])
    assert not (folder / "dvc.lock").exists()


def test_a_dataset_is_linked_under_a_plain_name(in_project: Project, tmp_path: Path) -> None:
    folder = in_project.path(".studies/some/run")
    for place in ("a", "b"):
        dataset = tmp_path / place / "my data"
        dataset.mkdir(parents=True)
        workspace.prepare(in_project.folder, folder, dataset, [])
        assert params.load(folder / "params.yaml").dataset.path == "data/my-data"
        assert (folder / "data/my-data").resolve() == dataset


def test_orphaned_stages_are_ended(tmp_path: Path) -> None:
    """Those of this workspace alone, and no other process in its folder."""
    (tmp_path / "other").mkdir()
    stage = os.environ | {"DVC_STAGE": "train"}
    sleep = ["sleep", "60"]
    orphan = subprocess.Popen(sleep, cwd=tmp_path, env=stage)
    others = [
        subprocess.Popen(sleep, cwd=tmp_path),
        subprocess.Popen(sleep, cwd=tmp_path / "other", env=stage),
    ]
    try:
        dvc_process.end_orphans(tmp_path)
        assert orphan.wait(10) == -signal.SIGKILL
        assert [other.poll() for other in others] == [None, None]
    finally:
        for process in (orphan, *others):
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["notebook", ""], "make notebook DATASET=folder"),
        (["notebook", "nowhere"], "DATASET: no folder 'nowhere'"),
        (["notebook", "data/synthetic", "train.epoch=3"], "SET: Could not override 'train.epoch'"),
        (["notebook", "data/synthetic", "train.epochs=0"], "'train.epochs' is 0: "),
        (["--minutes", "0", "zoo", "data/synthetic"], "MINUTES: 0 is not above zero"),
        (["--minutes", "soon", "zoo", "data/synthetic"], "argument --minutes: invalid float value: 'soon'"),
        (["zoos", "data/synthetic"], "invalid choice: 'zoos'"),
    ],
)
def test_wrong_commands_are_one_line(in_project: Project, given: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        command.main(given)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_choice_is_made_once(in_project: Project) -> None:
    assert workspace.keep("some", "precision", lambda: "bfloat16") == "bfloat16"
    assert workspace.keep("some", "precision", lambda: "float32") == "bfloat16"
    workspace.remove("some")
    assert workspace.keep("some", "precision", lambda: "float32") == "float32"


def test_the_time_limit_counts_down() -> None:
    with pieces.limit(1 / 60):
        before = pieces.left_s()
        time.sleep(0.05)
        after = pieces.left_s()
    assert before is not None and after is not None and 0.9 < after < before <= 1
    assert pieces.left_s() is None
