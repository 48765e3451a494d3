"""`make tune` through DVC's real queue, at tiny settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import numpy as np
import psutil
import pytest
from ruamel.yaml import YAML
from support import processes
from support.project import Project

from scripts.studies import parameters
from scripts.studies.tune import comparison, grid, search
from scripts.studies.tune.experiments import Queue

COMMAND = ["python", "-m", "scripts.studies", "tune", "data/synthetic"]
SET = [
    "intermediate=[addition]",
    "late=[late]",
    "seeds=[0,51,52]",
    "tune.factors=[1,3]",
    "tune.weight_decays=[0]",
]
SEARCH_SEEDS = [1, 2]
MODELS = ["rgb", "lidar", "addition", "late"]


def kill_all_in(folder: Path) -> None:
    """Kills every process that works in a folder, such as the queue's workers, which are nobody's children."""
    for process in psutil.process_iter(["cwd"]):
        if (process.info["cwd"] or "").startswith(str(folder)):
            process.kill()


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + 900
    while not is_so():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.2)


def trainings(project: Project) -> list[str]:
    """The command of every training of a search in DVC's run cache; one that ran twice is there twice.

    It wrote other seconds to its timing file, so DVC keeps both.
    """
    runs = (YAML(typ="safe").load(path) for path in project.path(".dvc/cache/runs").glob("*/*/*"))
    return [
        run["cmd"]
        for run in runs
        if "stages.train" in run["cmd"] and run["params"]["params.yaml"]["seeds"] == SEARCH_SEEDS
    ]


@pytest.mark.sweep
def test_a_killed_search_goes_on(clone: Project) -> None:
    """The search is killed within its first experiment; the same command then goes on to the page."""
    folder = clone.path(".studies/tune/search")
    first = processes.start(clone, [*COMMAND, *SET])
    wait_until(
        lambda: first.poll() is not None or any("  train_" in text for text in locks(folder)),
        "nothing was trained",
    )
    assert first.poll() is None
    processes.end(first)
    kill_all_in(folder)
    kept = trainings(clone)
    assert kept, "what was trained before the kill"

    told = clone.run(*COMMAND, *SET, timeout=1800).stdout
    assert "16 trainings in the search (4 models x 2 points x 2 seeds)" in told
    assert "wrote reports/tune/report.md" in told
    assert sorted(trainings(clone)) == sorted(
        f"exec python -m stages.{'train_late' if name == 'late' else 'train'} {name}" for name in MODELS * 2
    ), "each model once at each point"
    tuning = comparison.read(clone.path("reports/tune/tune.json"))
    assert tuning.search_seeds == SEARCH_SEEDS and tuning.seeds == [0, 51, 52]
    assert list(tuning.models) == MODELS
    for model in tuning.models.values():
        assert None not in model.losses
        assert model.point == tuning.points[int(np.argmin([loss or np.inf for loss in model.losses]))]
        assert model.tuned.learning_rate / model.default.learning_rate in (1, pytest.approx(3))
    assert clone.text("reports/tune/report.md").startswith("# Which fusion is best when each has its own")
    assert clone.path("reports/tune/tuned.png").stat().st_size > 10_000
    assert not clone.path(".studies").exists(), "nothing is left"
    assert clone.changed_files() == []


@pytest.mark.sweep
def test_after_a_stop_one_worker_runs_all_experiments(clone: Project) -> None:
    """DVC's own order to stop, which no worker has read, does not end the next one."""
    queue = Queue(clone.folder)
    ran = set()

    def has_ended() -> bool:
        ran.update(queue.running())
        return not queue.is_worked_on()

    def work_off(names: list[str]) -> None:
        for name in names:
            queue.add(name, [f"synthetic.seed={len(name)}"], ["check"])
        queue.start(1)
        wait_until(has_ended, "the worker is still there")
        assert not queue.failed()

    work_off(["a"])
    queue.stop()
    work_off(["bb", "ccc"])
    assert set(queue.done()) == ran == {"a", "bb", "ccc"}
    assert queue.running() == {}


def locks(folder: Path) -> list[str]:
    """dvc.lock of every experiment that runs."""
    return [path.read_text() for path in folder.glob(".dvc/tmp/exps/tmp*/dvc.lock")]


@pytest.mark.sweep
def test_a_model_that_diverges_is_left_out_at_that_point(clone: Project) -> None:
    settings = ["fusion=addition", "intermediate=[addition]", "late=[late]", "seeds=[1,2]"]
    with chdir(clone.folder):
        train = parameters.resolved(settings).train
        space = grid.build(train, {"tune.factors": (1.0, 1e8), "tune.weight_decays": (0.0,)})
        kinds = {"addition": "intermediate"}
        found = search.run(
            clone.path(".studies/tune"), Path("data/synthetic"), settings, space.points, kinds, 2, 1
        )
    usual, huge = space.points
    assert np.isfinite(found["addition"][usual]).all()
    assert found["addition"][huge].tolist() == [np.inf, np.inf]
    assert grid.choose(found["addition"], space.default) == usual
