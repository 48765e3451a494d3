"""ONNX files: they compute what PyTorch computes, describe themselves, and appear only when they are complete."""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.architectures import SEVEN_CLASSES
from support.manifest import made_up_manifest
from support.processes import start
from support.project import Project
from torch import nn

from scripts import export_onnx
from stages.lib import fusions
from stages.lib.core.errors import UserError
from stages.lib.deployment import loading, onnx_file
from stages.lib.deployment.model import DeployedModel
from stages.lib.models import networks
from stages.lib.tensors.manifest import Manifest, Normalization

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES),
    reason="ONNX is not installed: pip install -r requirements-deploy.txt",
)
NAMES = ["rgb", "lidar", *fusions.names(*fusions.KINDS)]
# One for each way of computing; the sweep has all.
QUICK = ("lidar", "early", "cross_attention", "late_product")
SIDE = 40
CLASSES = tuple("abcdefg")


def manifest_of(num_classes: int, channels: int, orientation: str) -> Manifest:
    counts = {name: 10 * (place + 1) for place, name in enumerate(CLASSES[:num_classes])}
    return replace(
        made_up_manifest(tuple(counts), {"train": counts}, {"train": 5}),
        image_size=SIDE,
        orientation=orientation,
        statistics={
            "rgb": Normalization([0.3] * channels, [0.2] * channels),
            "lidar": Normalization([0.0] * 4, [0.7, 0.7, 0.7, 1.0]),
        },
    )


def measurements(channels: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(count)
    rgb = rng.integers(0, 256, (count, channels, SIDE, SIDE), dtype=np.uint8)
    xyza = rng.normal(0, 5, (count, 4, SIDE, SIDE)).astype(np.float32)
    xyza[:, 3] = rng.random((count, SIDE, SIDE)) < 0.5
    xyza[0, 3] = 0  # a scan without returns, whose cells are not empty
    return torch.from_numpy(rgb), torch.from_numpy(xyza)


def write_and_compare(
    path: Path,
    name: str,
    *,
    num_classes: int,
    channels: int,
    orientation: str,
    temperatures: tuple[float, ...],
) -> None:
    """Writes untrained networks, one for each temperature, and compares them in batches of several sizes."""
    sizes = replace(SEVEN_CLASSES, rgb_channels=channels, num_logits=1 if num_classes == 2 else num_classes)
    torch.manual_seed(0)
    nets = [networks.build(name, sizes).eval() for _ in temperatures]
    model = DeployedModel(nets, manifest_of(num_classes, channels, orientation), temperatures).eval()
    onnx_file.write(path, model, *measurements(channels, 2), {"classes": list(CLASSES[:num_classes])})
    session = onnx_file.Session(path)
    for count in (1, 2, 7):
        rgb, xyza = measurements(channels, count)
        assert onnx_file.difference(session, model, rgb, xyza) < onnx_file.TOLERANCE
        probabilities, decisions = session.run(rgb.numpy(), xyza.numpy())
        assert probabilities.shape == (count, num_classes) and decisions.shape == (count,)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    # If all were alike, a graph that ignored its inputs would pass.
    assert np.ptp(probabilities, axis=0).max() > 10 * onnx_file.TOLERANCE


@needs_onnx
@pytest.mark.parametrize("name", QUICK)
def test_onnx_runtime_computes_what_pytorch_computes(name: str, tmp_path: Path) -> None:
    write_and_compare(
        tmp_path / "net.onnx",
        name,
        num_classes=2,
        channels=4,
        orientation="rotate-90",
        temperatures=(0.05, 2.0),
    )
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"], "weights lie in another file"


@needs_onnx
@pytest.mark.sweep
@pytest.mark.parametrize("name", NAMES)
def test_every_fusion(name: str, tmp_path: Path) -> None:
    write_and_compare(
        tmp_path / "net.onnx",
        name,
        num_classes=7,
        channels=3,
        orientation="anti-transpose",
        temperatures=(0.05,),
    )


@needs_onnx
def test_a_difference_is_found(tmp_path: Path) -> None:
    nets = [networks.build("addition", replace(SEVEN_CLASSES, num_logits=1)).eval()]
    model = DeployedModel(nets, manifest_of(2, 3, "as-is"), [0.05]).eval()
    onnx_file.write(tmp_path / "net.onnx", model, *measurements(3, 2), {})
    session = onnx_file.Session(tmp_path / "net.onnx")
    other = DeployedModel(nets, manifest_of(2, 3, "flip-rows"), [0.05]).eval()
    with pytest.raises(UserError, match=r"differ by .* in a batch of 7"):
        onnx_file.difference(session, other, *measurements(3, 7))


class FixedBatch(nn.Module):
    def forward(self, rgb: torch.Tensor, lidar: torch.Tensor) -> torch.Tensor:
        return lidar.mean(dim=(1, 2, 3))[:, None] + torch.zeros(1, 7).expand(len(rgb), -1)


@needs_onnx
def test_a_graph_with_a_fixed_batch_size_is_refused(tmp_path: Path) -> None:
    model = DeployedModel([FixedBatch()], manifest_of(7, 3, "as-is"), [1.0]).eval()
    with pytest.raises(UserError, match=r"fixes the size of a batch; .* x\.shape\[0\]"):
        onnx_file.write(tmp_path / "net.onnx", model, *measurements(3, 2), {})
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "_PACKAGES", ("numpy", "onnx_that_nobody_has"))
    with pytest.raises(UserError, match=r"not installed: onnx_that_nobody_has; .*requirements-deploy\.txt"):
        onnx_file.require_packages()


@needs_onnx
@pytest.mark.parametrize(("options", "seeds"), [(["--seed", "51"], [51]), (["--ensemble"], [0, 51])])
def test_file_of_a_trained_model(
    options: list[str],
    seeds: list[int],
    shared_clone: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Late fusion, which contains the networks of both sensors."""
    import onnx

    monkeypatch.chdir(shared_clone.folder)
    monkeypatch.setattr(onnx_file, "_TIMED_S", 0.01)
    out = tmp_path / "late.onnx"
    export_onnx.main(["late", str(out), *options])
    said = capsys.readouterr().out
    assert "ONNX Runtime" in said and "balanced accuracy on the test split" in said
    assert f": late, {'seed 51' if len(seeds) == 1 else 'seeds 0, 51'}, " in said
    assert [path.name for path in tmp_path.iterdir()] == ["late.onnx"]

    stored = onnx.load(out)
    onnx.checker.check_model(stored)
    assert {entry.domain: entry.version for entry in stored.opset_import}[""] == onnx_file.OPSET
    facts = {entry.key: json.loads(entry.value) for entry in stored.metadata_props}
    manifest = json.loads(shared_clone.text("data/tensors/manifest.json"))
    assert facts["classes"] == manifest["classes"] and facts["data_digest"] == manifest["digest"]
    assert facts["seeds"] == seeds and facts["model"] == "late" and len(facts["temperatures"]) == len(seeds)
    evaluated = json.loads(shared_clone.text("reports/evaluation/late.json"))["seeds"]
    accuracy = facts["balanced_accuracy"]
    if len(seeds) == 1:
        assert accuracy["mean"] == pytest.approx(evaluated["51"]["test"]["balanced_accuracy"])
    assert accuracy["low"] <= accuracy["mean"] <= accuracy["high"] and accuracy["split"] == "test"
    assert facts["revision"] == json.loads(shared_clone.text("reports/timing/train-late.json"))["revision"]


def test_default_seed_has_the_lowest_validation_loss(
    shared_clone: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shared_clone.folder)
    evaluated = json.loads(shared_clone.text("reports/evaluation/late.json"))["seeds"]
    expected = min(evaluated, key=lambda seed: evaluated[seed]["validation"]["loss"])
    assert export_onnx.best_seed(loading.load("late")) == int(expected)


def limit_file_size(num_bytes: int) -> Callable[[], None]:
    """Limits the size of a process's files, like a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


@needs_onnx
def test_full_disk(clone: Project) -> None:
    command = ["python", "-B", "-m", "scripts.export_onnx", "late", "late.onnx", "--seed", "51"]
    process = start(clone, command, preexec_fn=limit_file_size(5_000))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "Traceback" not in output, output
    assert output.strip().splitlines()[-1].startswith("error: ") and "too large" in output.lower()
    assert not list(clone.folder.glob("*.onnx")) and not list(clone.folder.glob(".*.onnx*"))


@needs_onnx
def test_command_line(clone: Project) -> None:
    def refused(*arguments: str) -> str:
        done: subprocess.CompletedProcess[str] = clone.run(
            "python", "-m", "scripts.export_onnx", *arguments, check=False
        )
        assert done.returncode == 1 and done.stdout.count("\n") == 1, done.stdout
        return done.stdout

    assert "has to end with .onnx" in refused("late", "late.pb")
    assert "no such folder" in refused("late", "nowhere/late.onnx")
