"""The benchmarks run, at sizes that prove nothing but that, and write the figures that they promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from torch import nn

from benchmarks import notebook


def test_export(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/export.py", "--groups", "60", "30", "--rounds", "1"]
    command += ["--json", str(tmp_path / "f")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f").read_text())
    assert list(figures["groups_per_s"]) == list(figures["fiftyone_import_s"]) == ["30", "60"]
    assert all(rate > 0 for rate in figures["groups_per_s"].values())
    assert figures["peak_mib"] > 100 and figures["plain_loop_ratio"] > 0
    assert isinstance(figures["exponent"], float)
    # At the default size, whatever the number of groups: 64 x 64 x (4 bytes of colour + 4 x 4 of LiDAR).
    assert 64 * 64 * 20 / 1000 < figures["kilobytes_per_group"] < 90
    assert "| 30 " in done.stdout and "FiftyOne's import (s)" in done.stdout


def test_train(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/train.py", "--groups", "40", "8", "--rounds", "1"]
    command += ["--models", "addition", "late", "--fusions", "film", "--json", str(tmp_path / "f")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f").read_text())
    assert list(figures["models"]) == ["addition", "late"]
    for seconds in figures["models"].values():
        assert list(seconds) == ["notebook_s", "float32_s", "bfloat16_s"]
        assert all(value > 0 for value in seconds.values())
    assert list(figures["peak_gflops"]) == ["float32", "bfloat16"]
    assert figures["seeds_parallel"] > 0
    assert list(figures["fusions"]) == ["film"] and figures["fusions"]["film"]["beside"] == "addition"
    assert figures["fusions"]["film"]["ratio"] > 0
    assert "| addition | notebook " in done.stdout and "Of the peak" in done.stdout


def test_notebook_trains_its_own_networks() -> None:
    """The yardstick's networks have the notebook's sizes, so that its work is the engine's."""
    nets: dict[str, nn.Module] = {}
    counts = {}
    for name in notebook.MODELS:
        nets[name] = notebook.build(name, nets)
        counts[name] = sum(weight.numel() for weight in nets[name].parameters())
    assert counts == {
        "rgb": 13_128_351,
        "lidar": 13_128_351,
        "concatenation": 13_015_851,
        "addition": 6_615_851,
        "hadamard": 6_615_851,
        "late": 26_256_743,
    }


def test_evaluation(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/evaluation.py", "--groups", "20", "--seeds", "4"]
    done = subprocess.run([*command, "--json", str(tmp_path / "f")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f").read_text())
    assert list(figures) == ["evaluate", "evaluate, all groups corrupted", "compare"]
    assert all(row["seconds"] > 0.5 and row["peak_mib"] > 100 for row in figures.values())
    assert "| compare " in done.stdout


def test_claims(tmp_path: Path) -> None:
    """Few repetitions, so the bounds are those of a coarse look: the benchmark itself has the fine one."""
    command = [sys.executable, "benchmarks/claims.py", "--repetitions", "60", "--draws", "400"]
    done = subprocess.run([*command, "--json", str(tmp_path / "f")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f").read_text())
    assert list(figures["false_claims"]) == ["6", "10"]
    # Of 60 at a true rate of 5 %, 9 or more come up once in five hundred times.
    assert all(share < 9 / 60 for share in figures["false_claims"].values())
    assert figures["power_3_points_alone"]["10"] > 0.4
    assert figures["power_3_points"]["10"] > 0.2 and figures["power_3_points"]["6"] == 0
    assert all(share > 0.8 for row in figures["coverage"].values() for share in row.values())
    assert "| same strategy twice " in done.stdout and "| scenes dominate " in done.stdout
