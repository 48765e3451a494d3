"""Tracking in real DVC stages: it trains nothing again, is live, survives a kill, and changes no result."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import re
import time

import pytest
from support import trackers
from support.processes import end, start
from support.project import Project

from stages.headline import TEST_METRICS

MODELS = ["rgb", "lidar", "concatenation", "addition", "hadamard", "late"]
STAGE = ["python", "-m", "stages.train", "addition"]
HISTORY = "reports/history/addition.csv"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None,
    reason="tensorboard is not installed; `pip install -r requirements-track.txt` installs it",
)


def history(project: Project, name: str) -> dict[int, list[dict[str, float]]]:
    by_seed: dict[int, list[dict[str, float]]] = {}
    for row in csv.DictReader(project.text(f"reports/history/{name}.csv").splitlines()):
        by_seed.setdefault(int(row.pop("seed")), []).append({key: float(row[key]) for key in row})
    return by_seed


def logged(project: Project) -> dict[tuple[str, int], trackers.Logged]:
    """All runs of TensorBoard by model and seed."""
    runs = trackers.read("tensorboard", project.folder)
    by_seed = {(run.model, int(run.config["seed"])): run for run in runs.values()}
    assert len(by_seed) == len(runs), "two runs of one seed"
    return by_seed


def assert_same(epochs: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(epochs) == len(expected)
    for found, values in zip(epochs, expected, strict=True):
        assert found == pytest.approx(values, rel=1e-6)  # TensorBoard has 32 bits


def test_another_tracker_runs_no_stage_again_and_gets_finished_runs(clone: Project) -> None:
    output = clone.run("dvc", "exp", "run", "-S", "track.backend=tensorboard").stdout
    assert re.findall(r"Running stage '([^']+)'", output) == ["check"]
    assert "up to date" in clone.run("dvc", "status").stdout
    for _ in range(2):  # the second time adds nothing
        clone.run("python", "-m", "scripts.track")
        runs = logged(clone)
        assert set(runs) == {(name, seed) for name in MODELS for seed in (0, 51)}
        for name in MODELS:
            epochs = history(clone, name)
            measured = json.loads(clone.text(f"reports/evaluation/{name}.json"))["seeds"]
            for seed in (0, 51):
                assert_same(runs[name, seed].epochs, epochs[seed])
                summary = runs[name, seed].summary
                assert summary.keys() >= {f"test_{metric}" for metric in TEST_METRICS}
                assert summary["test_loss"] == pytest.approx(measured[str(seed)]["test"]["loss"], rel=1e-6)
    assert clone.run("git", "status", "--porcelain").stdout.split() == ["M", "dvc.lock", "M", "params.yaml"]


def test_live_killed_resumed_and_evaluated(clone: Project) -> None:
    clone.set(train__epochs=20, train__save_every_s=0.0, track__backend="tensorboard")
    clone.set(evaluate__severities=[], evaluate__permutations=0)
    clone.path(HISTORY).unlink()
    process = start(clone, STAGE)
    lengths = set()
    deadline_s = time.monotonic() + 120
    while max(lengths, default=0) < 6 and time.monotonic() < deadline_s:
        text = clone.text(HISTORY) if clone.path(HISTORY).exists() else ""
        assert all(re.fullmatch(r"[\w.+,-]+,[\w.+,-]+\n", line) for line in text.splitlines(keepends=True))
        assert all(line.count(",") == 4 for line in text.splitlines()), "no whole lines"
        lengths.add(text.count("\n"))
        time.sleep(0.02)
    assert process.poll() is None and len(lengths - {0, 1}) > 1, "the history does not grow with training"
    end(process)

    output = clone.run(*STAGE).stdout
    assert "resuming from here" in output and "warning" not in output
    epochs = history(clone, "addition")
    assert {seed: [row["epoch"] for row in rows] for seed, rows in epochs.items()} == {
        seed: list(range(1, 21)) for seed in (0, 51)
    }
    before = results(clone)
    clone.run("python", "-m", "stages.evaluate", "addition")
    runs = logged(clone)
    measured = json.loads(clone.text("reports/evaluation/addition.json"))["seeds"]
    for seed in (0, 51):
        assert_same(runs["addition", seed].epochs, epochs[seed])
        assert runs["addition", seed].summary["test_loss"] == pytest.approx(
            measured[str(seed)]["test"]["loss"], rel=1e-6
        )

    clone.run("rm", "-rf", ".scratch", "models/addition", HISTORY, "tracking")
    clone.set(track__backend="none", train__workers=2)
    clone.run(*STAGE)
    assert results(clone) == before, "a tracker changes results"
    assert not clone.path("tracking").exists()


def results(project: Project) -> dict[str, str]:
    files = [*sorted(project.path("models/addition").iterdir()), project.path(HISTORY)]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
