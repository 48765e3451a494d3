"""Trackers log what the notebook logged, go on in the same run, and never stop training."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import trackers
from support.project import ROOT

from stages import check
from stages.lib import tracking
from stages.lib.core.errors import UserError
from stages.lib.params import Track
from stages.lib.tracking import live, runs
from stages.lib.tracking.live import LiveTracker
from stages.lib.training.progress import SeedProgress, SeedReport
from stages.lib.training.state import Epoch

METADATA = {
    "recipe": {"epochs": 5, "patience": None, "augment": {"flip": "none"}},
    "architecture": {"hidden": (16, 8)},
    "classes": ["cubes", "spheres"],
    "data_digest": "0123456789abcdef" * 4,
}
TEST_METRICS = {"loss": 0.25, "accuracy": 0.875, "auroc": None}
# Sums of powers of two, which TensorBoard's 32 bits hold exactly.
EPOCHS = [
    {"epoch": n, "learning_rate": 2**-n, "train_loss": 1 / 2**n, "valid_loss": 0.5 + 1 / 2**n}
    for n in range(1, 6)
]
# Logs one epoch of two runs in a process of its own: settings of W&B are those of a process.
LOG_TWO_RUNS = f"""
import sys
from stages.lib.params import Track
from stages.lib.tracking import runs
from stages.lib.tracking.live import LiveTracker
with LiveTracker(Track(backend=sys.argv[1], project="test", mlflow_uri=sys.argv[2] or None)) as tracker:
    for seed in (0, 51):
        tracker.log(runs.describe("rgb", seed, {METADATA}, (1.0, 2.0)), [{EPOCHS[0]}])
print("training is done")
"""


def settings(backend: str) -> Track:
    return Track(backend=backend, project="test", mlflow_uri=None)


def run_of(seed: int, model: str = "rgb") -> runs.Run:
    return runs.describe(model, seed, METADATA, (0.5, 1.0))


@pytest.fixture(params=["wandb", "mlflow", "tensorboard"])
def backend(request: pytest.FixtureRequest) -> str:
    return installed(request.param)


def installed(backend: str) -> str:
    for package in tracking.PACKAGES[backend]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; `pip install -r requirements-track.txt` installs it")
    return backend


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


def test_a_run_for_each_seed_that_goes_on_where_it_was(
    backend: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted, resumed with all epochs from the first one, evaluated, and logged once more."""
    monkeypatch.setattr(
        live, "_FINISH_AFTER_ERROR_S", 60
    )  # so that no epoch is lost, however slow the machine
    with pytest.raises(KeyboardInterrupt), LiveTracker(settings(backend)) as tracker:
        tracker.log(run_of(0), EPOCHS[:1])
        tracker.log(run_of(51), EPOCHS[:2])
        tracker.log(run_of(0), EPOCHS[1:3])
        raise KeyboardInterrupt
    with LiveTracker(settings(backend)) as tracker:
        for seed in (0, 51):
            tracker.log(run_of(seed), EPOCHS)
    content = METADATA | {"model": "rgb", "seed": 0, "best_epoch": 5}
    content |= {key: [epoch[key] for epoch in EPOCHS] for key in ("train_loss", "valid_loss")}
    for _ in range(2):
        live.log_test_metrics(settings(backend), [(json.loads(json.dumps(content)), TEST_METRICS)])

    logged = trackers.read(backend, project)
    assert set(logged) == {run_of(0).id, run_of(51).id}
    assert [set(epoch) for epoch in logged[run_of(0).id].epochs] == [trackers.EPOCH_KEYS] * 5
    for seed in (0, 51):
        run = logged[run_of(seed).id]
        assert run.model == "rgb" and run.epochs == EPOCHS
        assert str(run.config["data_digest"]) == METADATA["data_digest"]
        assert float(run.config["recipe.epochs"]) == 5 and run.config["recipe.augment.flip"] == "none"
    assert logged[run_of(0).id].summary == {"test_loss": 0.25, "test_accuracy": 0.875}
    assert logged[run_of(51).id].summary == {}
    assert {path.name for path in project.iterdir()} == {"tracking"}, "it wrote elsewhere"
    assert not list(project.rglob("*.tmp"))


def test_a_run_is_known_by_what_it_was_trained_with() -> None:
    content = json.loads(json.dumps(METADATA | {"model": "rgb", "seed": 0, "best_epoch": 1}))
    content |= {"train_loss": [0.5, 0.25], "valid_loss": [1.0, 0.75]}
    assert runs.describe_finished(content) == run_of(0)
    others = [
        run_of(51),
        run_of(0, "lidar"),
        runs.describe("rgb", 0, METADATA, (0.5, 1.5)),  # other code
        runs.describe("rgb", 0, METADATA | {"recipe": {"epochs": 6}}, (0.5, 1.0)),
        runs.describe("rgb", 0, METADATA | {"data_digest": "f" * 64}, (0.5, 1.0)),
    ]
    assert len({run.id for run in [run_of(0), *others]}) == 6
    assert run_of(0).tags == ["rgb", "seed-0", "data-0123456789ab"]
    assert run_of(0).config["architecture.hidden"] == "[16, 8]"


def log_two_runs(backend: str, folder: Path, uri: str = "", **environment: str) -> tuple[list[str], float]:
    """The lines that tracking in a process of its own printed, and its seconds."""
    start_s = time.monotonic()
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", LOG_TWO_RUNS, backend, uri],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines(), time.monotonic() - start_s


@pytest.mark.parametrize(
    ("backend", "uri", "environment", "reason"),
    [
        ("wandb", "", {"WANDB_API_KEY": "a" * 40, "WANDB_MODE": "online"}, "Failed to get resume status"),
        ("wandb", "", {"WANDB_API_KEY": "", "WANDB_MODE": "online"}, "No API key configured"),
        ("mlflow", "http://127.0.0.1:9", {}, "127.0.0.1"),
    ],
    ids=["W&B without network", "W&B without key", "MLflow without its server"],
)
def test_a_tracker_that_fails_is_one_warning(
    backend: str, uri: str, environment: dict[str, str], reason: str, tmp_path: Path
) -> None:
    installed(backend)
    # Nobody's credentials, and a port where nothing listens.
    environment |= {"WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path), "NETRC": "none"}
    lines, seconds = log_two_runs(backend, tmp_path, uri, **environment)
    assert len(lines) == 2 and lines[1] == "training is done", lines
    assert lines[0].startswith(f"warning: tracking with {backend} stopped: ") and reason in lines[0]
    assert seconds < 60


@pytest.mark.parametrize("backend", ["wandb", "tensorboard"])
def test_a_folder_that_cannot_be_written_is_one_warning(backend: str, tmp_path: Path) -> None:
    installed(backend)
    (tmp_path / "tracking").touch()
    lines, _ = log_two_runs(backend, tmp_path, WANDB_MODE="offline")
    assert lines[0].startswith(f"warning: tracking with {backend} stopped: ")
    assert lines[1:] == ["training is done"]


def test_a_tracker_without_an_answer_is_one_warning(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    installed("wandb")  # it starts a process, which takes longer than the limit below
    monkeypatch.setattr(live, "_FINISH_S", 0.05)
    start_s = time.monotonic()
    with LiveTracker(settings("wandb")) as tracker:
        tracker.log(run_of(0), EPOCHS)
        before_end_s = time.monotonic()
    assert before_end_s - start_s < 0.5, "logging waited for the tracker"
    assert time.monotonic() - start_s < 2
    tracker.log(run_of(0), EPOCHS)
    tracker._thread.join(60)
    assert capfd.readouterr().err == "warning: tracking with wandb stopped: no answer for 0.05 seconds\n"


def test_too_many_waiting_reports_are_one_warning(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    installed("wandb")
    monkeypatch.setattr(live, "_MOST_WAITING", 3)
    with LiveTracker(settings("wandb")) as tracker:
        for _ in range(100):
            tracker.log(run_of(0), EPOCHS[:1])
    tracker._thread.join(60)
    assert capfd.readouterr().err == "warning: tracking with wandb stopped: 3 reports wait for it\n"


def test_none_writes_nothing(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with LiveTracker(settings("none")) as tracker:
        tracker.log(run_of(0), EPOCHS)
    assert list(project.iterdir()) == [] and capfd.readouterr().err == ""


def test_a_missing_package_is_an_error_before_training(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(tracking.PACKAGES, "wandb", ["no_such_package"])
    text = (ROOT / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("  backend: none\n", "  backend: wandb\n"))
    with pytest.raises(
        UserError, match=r"track\.backend: wandb needs .*pip install -r requirements-track\.txt"
    ):
        check.main()
    with LiveTracker(settings("wandb")) as tracker:  # a stage that is run by hand trains all the same
        tracker.log(run_of(0), EPOCHS)
    assert "pip install -r requirements-track.txt" in capfd.readouterr().err


def test_each_epoch_is_passed_on_once_and_in_order() -> None:
    """Although reports repeat the last epoch, tell all epochs of a resumed seed, or are lost."""
    history = [Epoch(number, 0.1, 1 / number, 2 / number) for number in range(1, 8)]
    seen: list[tuple[int, int]] = []
    progress = SeedProgress(
        "rgb", [0, 51, 52], lambda seed, epochs: seen.extend((seed, epoch.epoch) for epoch in epochs)
    )

    def report(seed: int, *numbers: int, is_done: bool = False) -> None:
        new = tuple((n, 0.1, 1 / n, 2 / n) for n in numbers)
        progress.show(SeedReport(seed, numbers[-1], 7, 1.0, 1.0, 1.0, 1.0, is_done, new=new))

    report(0, 1)
    report(0, 2)
    report(0, 2, is_done=True)
    report(51, 1, 2, 3, 4)  # resumed
    report(51, 5)
    report(0, 4)  # the third was lost
    assert seen == [(0, 1), (0, 2), (51, 1), (51, 2), (51, 3), (51, 4), (51, 5)]
    seen.clear()
    for seed in (0, 51, 52):
        progress.pass_on(seed, history)
    assert seen == [(seed, n) for seed, first in ((0, 3), (51, 6), (52, 1)) for n in range(first, 8)]


def test_the_copy_of_a_queued_experiment_logs_into_the_project(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC deletes the copy; DVC_ROOT names the project itself."""
    installed("tensorboard")
    copy = project / ".dvc" / "tmp" / "copy"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(project))
    with LiveTracker(settings("tensorboard")) as tracker:
        tracker.log(run_of(0), EPOCHS)
    assert trackers.read("tensorboard", project)[run_of(0).id].epochs == EPOCHS
    assert list(copy.iterdir()) == []
