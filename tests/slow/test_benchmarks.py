"""The benchmarks run, at sizes that prove nothing but that, and write the figures that they promise."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.manifest import made_up_manifest
from support.project import ROOT, Project
from torch import nn

from benchmarks import claims, hardware, notebook
from stages.lib.models.architecture import Architecture
from stages.lib.statistics import significance
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Normalization

LIMIT_S = 300  # of each; on two cores of a processor without AVX-512 they take a third of that


def figures_of(folder: Path, name: str, *options: str) -> tuple[dict[str, Any], str]:
    """What a benchmark writes, and what it says."""
    command = [sys.executable, f"benchmarks/{name}.py", *options, "--json", str(folder / "figures.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "figures.json").read_text()), done.stdout


@pytest.mark.sweep
def test_export(tmp_path: Path) -> None:
    figures, said = figures_of(tmp_path, "export", "--groups", "60", "30", "--rounds", "1")
    assert list(figures["groups_per_s"]) == list(figures["fiftyone_import_s"]) == ["30", "60"]
    assert all(rate > 0 for rate in figures["groups_per_s"].values())
    assert figures["peak_mib"] > 100 and figures["plain_loop_ratio"] > 0
    assert isinstance(figures["exponent"], float)
    # At the default size, whatever the number of groups: 64 x 64 x (4 bytes of colour + 4 x 4 of LiDAR).
    assert 64 * 64 * 20 / 1000 < figures["kilobytes_per_group"] < 90
    assert "| 30 " in said and "FiftyOne's import (s)" in said


@pytest.mark.sweep
def test_train(tmp_path: Path) -> None:
    few = ["--groups", "40", "8", "--rounds", "1", "--models", "addition", "late", "--fusions", "film"]
    figures, said = figures_of(tmp_path, "train", *few)
    assert list(figures["models"]) == ["addition", "late"]
    for seconds in figures["models"].values():
        assert list(seconds) == ["notebook_s", "float32_s", "bfloat16_s"]
        assert all(value > 0 for value in seconds.values())
    assert list(figures["peak_gflops"]) == ["float32", "bfloat16"]
    assert figures["seeds_parallel"] > 0
    assert list(figures["fusions"]) == ["film"] and figures["fusions"]["film"]["beside"] == "addition"
    assert figures["fusions"]["film"]["ratio"] > 0
    assert "| addition | notebook " in said and "Of the peak" in said


def test_gpu(tmp_path: Path) -> None:
    """On the CPU, with a cache of 24 random groups."""
    count, side, shards = 12, 16, {}
    for split in ("train", "validation"):
        shards[split] = [f"{split}-00000.safetensors"]
        tensors = {
            "rgb": torch.randint(255, (count, 3, side, side), dtype=torch.uint8),
            "lidar": torch.rand(count, 4, side, side),
            "label": torch.arange(count) % 2,
        }
        save_file(tensors, tmp_path / shards[split][0])
    manifest = made_up_manifest(("cubes", "spheres"), {}, {})
    scales = {"rgb": Normalization([0.5] * 3, [0.3] * 3), "lidar": Normalization([0.5] * 4, [0.3] * 4)}
    manifests.save(replace(manifest, image_size=side, shards=shards, statistics=scales), tmp_path)
    few = ["--rounds", "1", "--models", "concatenation", "late", "--batches", "8", "--precisions", "bfloat16"]
    on_cpu = ["--device", "cpu", "--peak-side", "256", "--least", "3", "--tensors", str(tmp_path)]
    figures, said = figures_of(tmp_path, "gpu", *few, *on_cpu)
    joint, head = figures["rows"]
    assert (joint["model"], head["model"]) == ("concatenation", "late")
    assert joint["samples_per_s"] > 0 and head["samples_per_s"] > 0 and head["gflops"] is None
    assert joint["of_peak"] == pytest.approx(joint["gflops"] / figures["peak_gflops"]["bfloat16"])
    assert "| concatenation " in said and "Of the peak" in said


def test_operations_of_a_sample() -> None:
    """Of a convolution of 4 to 8 channels, and of a step, which computes its weights' gradients as well."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(4, 8, 3, padding=1)

        def forward(self, rgb: torch.Tensor, lidar: torch.Tensor) -> torch.Tensor:
            return self.convolution(rgb) + lidar.sum()

    sizes = Architecture(4, 4, 16, 1, (4, 4, 4), (4, 4, 4), (8, 4), 10)
    forward = 2 * 9 * 4 * 8 * 16 * 16 / 1e9
    assert hardware.sample_gflop(Sum(), sizes) == pytest.approx((2 * forward, forward))


def test_the_peak_is_found_in_moments() -> None:
    """Also of a precision that the processor has no instructions for."""
    started_s = time.monotonic()
    assert all(hardware.peak_gflops(precision, threads=1) > 0 for precision in ("float32", "bfloat16"))
    assert time.monotonic() - started_s < 30


def test_notebook_trains_its_own_networks() -> None:
    """The reference's networks have the notebook's sizes, as this project's have."""
    nets: dict[str, nn.Module] = {}
    with torch.device("meta"):
        for name in notebook.MODELS:
            nets[name] = notebook.build(name, nets)
    counts = {name: sum(weight.numel() for weight in net.parameters()) for name, net in nets.items()}
    assert counts == {
        "rgb": 13_128_351,
        "lidar": 13_128_351,
        "concatenation": 13_015_851,
        "addition": 6_615_851,
        "hadamard": 6_615_851,
        "late": 26_256_743,
    }


@pytest.mark.sweep
def test_evaluation(tmp_path: Path) -> None:
    figures, said = figures_of(tmp_path, "evaluation", "--groups", "20", "--seeds", "4")
    assert list(figures) == ["evaluate", "evaluate, all groups corrupted", "compare"]
    assert all(row["seconds"] > 0.5 and row["peak_mib"] > 100 for row in figures.values())
    assert "| compare " in said


def test_sensor_dropout(clone: Project) -> None:
    """Two runs side by side: a commit and what stands in the folder; a star at rates beyond those in training."""
    shutil.copy(ROOT / "benchmarks/sensor_dropout.py", clone.path("benchmarks"))
    path = clone.path("reports/statistics.json")
    other = json.loads(path.read_text()) | {"sensor_dropout": 0.5}
    path.write_text(json.dumps(other))
    command = ["python", "benchmarks/sensor_dropout.py", "HEAD", "--json", "figures.json"]
    said = clone.run(*command).stdout
    figures = json.loads(clone.text("figures.json"))
    assert list(figures) == ["sensor_dropout", "rgb", "lidar", "either"]
    assert figures["sensor_dropout"] == [0.0, 0.5]
    first, second = figures["lidar"]["concatenation"]
    assert first == second and first["rates"] == [0, 0.1, 0.25, 0.5, 0.75, 1]
    rows = [line.split("|")[1:-1] for line in said.split("LiDAR fails")[1].splitlines() if "addition" in line]
    stars = [[cell.strip().endswith("*") for cell in row[2:]] for row in rows[:2]]
    assert stars == [[False, *5 * [True]], [False, False, False, True, True, True]]
    path.write_text(json.dumps(other | {"seeds": [1]}))
    refused = clone.run(*command, check=False)
    assert (
        refused.returncode == 1
        and "error: seeds is [0, 51] in HEAD, but [1] in this folder" in refused.stdout
    )
    missing = clone.run("python", "benchmarks/sensor_dropout.py", "no-such-run", check=False)
    assert missing.returncode == 1 and missing.stdout.startswith(
        "error: no-such-run: reports/statistics.json: "
    )


def test_claims(tmp_path: Path) -> None:
    """Few repetitions, so the limits are wide: the benchmark itself has narrow ones."""
    figures, said = figures_of(tmp_path, "claims", "--repetitions", "60")
    assert list(figures) == ["false_claims", "power", "coverage"]
    for world, shares in figures["false_claims"].items():
        assert list(shares) == ["3", "4", "5", "6", "8"], world
        # 300 families in all: at a true rate of 5.5 %, more than 10 % come up once in two thousand times.
        assert sum(shares.values()) / 5 < 0.10, world
    assert figures["power"]["default"]["8"]["10"] > 0.9 > figures["power"]["default"]["3"]["3"]
    assert all(share > 0.85 for row in figures["coverage"].values() for share in row.values())
    assert "| default " in said and "| scenes dominate " in said


def test_claims_corrects_as_the_report_does() -> None:
    p = np.random.default_rng(0).random((20, 5))
    assert claims.holm(p) == pytest.approx(np.array([significance.holm(row.tolist()) for row in p]))
