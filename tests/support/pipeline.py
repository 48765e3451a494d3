"""The whole pipeline at tiny settings: by DVC, or stage after stage in this process."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from stages import (
    baselines,
    check,
    compare,
    evaluate,
    export,
    headline,
    report,
    synthesize,
    train,
    train_late,
)
from stages.lib import params
from stages.lib.datasets import synthetic
from stages.lib.plots import style
from support.project import TINY, Project, copy_working_tree, set_params


def make_tiny_run(project: Project) -> None:
    project.folder.mkdir()
    copy_working_tree(project.folder)
    set_params(project.folder, TINY)
    project.run("git", "init", "--quiet", "--initial-branch", "main")
    project.run("python", "-m", "stages.check")
    project.run("dvc", "repro")
    project.commit("A tiny run")


def run_stages() -> None:
    """Every stage in its order, in the current folder."""
    settings = params.load()
    check.main()
    if settings.dataset.path == synthetic.FOLDER.as_posix():
        synthesize.main()
    export.main()
    for name in [*settings.unimodal, *settings.intermediate]:
        train.main([name])
    for name in settings.late:
        train_late.main([name])
    baselines.main()
    for name in settings.model_names():
        evaluate.main([name])
    compare.main()
    headline.main()
    report.main()


def leave_empty(figure: Figure, path: Path) -> None:
    style.plt.close(figure)
    path.touch()
