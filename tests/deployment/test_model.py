"""The deployed model computes what the evaluation computes: inputs, decisions, probabilities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from support.architectures import SEVEN_CLASSES
from support.manifest import made_up_manifest

from stages.lib.deployment.model import DeployedModel, turned_back
from stages.lib.evaluation import metrics
from stages.lib.lidar import geometry
from stages.lib.models import networks
from stages.lib.tensors.manifest import Manifest, Normalization
from stages.lib.tensors.split import Split

SIDE = 40


def manifest_of(counts: dict[str, int], *, normalized: bool = True, orientation: str = "as-is") -> Manifest:
    return replace(
        made_up_manifest(tuple(counts), {"train": counts}, {"train": 5}),
        image_size=SIDE,
        normalized=normalized,
        orientation=orientation,
        statistics={
            "rgb": Normalization([0.3, 0.4, 0.5], [0.2, 0.3, 0.1]),
            "lidar": Normalization([0.0] * 4, [0.7, 0.7, 0.7, 1.0]),
        },
        shards={"train": ["train-00000.safetensors"]},
    )


def measurements(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8)
    xyza = rng.normal(0, 5, (count, 4, SIDE, SIDE)).astype(np.float32)
    xyza[:, 3] = rng.random((count, SIDE, SIDE)) < 0.5
    xyza *= xyza[:, 3:]
    xyza[0] = 0  # a scan without returns
    return torch.from_numpy(rgb), torch.from_numpy(xyza)


def seven(**changes: object) -> DeployedModel:
    counts = {name: 10 * (place + 1) for place, name in enumerate("abcdefg")}
    torch.manual_seed(0)
    nets = [networks.build("concatenation", SEVEN_CLASSES).eval() for _ in range(2)]
    return DeployedModel(nets, manifest_of(counts, **changes), [0.5, 2.0]).eval()


@pytest.mark.parametrize("normalized", [True, False])
def test_inputs_are_the_trainings_to_the_last_bit(tmp_path: Path, normalized: bool) -> None:
    rgb, xyza = measurements(5)
    content = {"rgb": rgb.numpy(), "lidar": xyza.numpy(), "label": np.arange(5)}
    safetensors.numpy.save_file(content, tmp_path / "train-00000.safetensors")
    model = seven(normalized=normalized)
    split = Split(tmp_path, manifest_of(dict.fromkeys("abcdefg", 1), normalized=normalized), "train")
    for sensor, measured, expected in zip(
        ("rgb", "lidar"), (rgb, model.turned(xyza)), split.batch(range(5)), strict=True
    ):
        assert torch.equal(model.network_input(sensor, measured), expected)


@pytest.mark.parametrize("orientation", geometry.ORIENTATIONS)
def test_turn_is_the_exports(orientation: str) -> None:
    _, xyza = measurements(2)
    turned = geometry.ORIENTATIONS[orientation](xyza.numpy())
    assert torch.equal(seven(orientation=orientation).turned(xyza), torch.from_numpy(turned.copy()))
    assert torch.equal(turned_back(torch.from_numpy(turned.copy()), orientation), xyza)


def test_cells_without_return_count_for_nothing() -> None:
    rgb, xyza = measurements(3)
    model = seven()
    rubbish = torch.where(xyza[:, 3:] > 0, xyza, torch.nan)
    rubbish[:, 3] = xyza[:, 3] * 0.25  # any value above zero marks a return
    with torch.no_grad():
        for found, expected in zip(model(rgb, rubbish), model(rgb, xyza), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("num_logits", [1, 7])
def test_decisions_and_probabilities_are_the_evaluations(num_logits: int) -> None:
    counts = {"a": 100, "b": 10} if num_logits == 1 else {**dict.fromkeys("abcdef", 10), "g": 0}
    logits = np.random.default_rng(0).normal(0, 3, (3, 50, num_logits)).astype(np.float32)
    manifest = manifest_of(counts)
    temperatures = [0.4, 1.0, 3.0]
    for seed, temperature in enumerate(temperatures):
        model = DeployedModel([], manifest, [temperature])
        one = torch.from_numpy(logits[seed : seed + 1]).double()
        expected = metrics.predicted(metrics.weighed(logits[seed], manifest.class_shares))
        assert (model.scores(one).argmax(dim=1).numpy() == expected).all()
        expected = np.exp(metrics.log_probabilities(logits[seed].astype(np.float64) / temperature))
        np.testing.assert_allclose(model.probabilities(one)[0].numpy(), expected, rtol=0, atol=1e-12)
    both = DeployedModel([], manifest, temperatures)
    assert both.probabilities(torch.from_numpy(logits)).shape == (3, 50, max(2, num_logits))


def test_probabilities_are_means_over_seeds() -> None:
    rgb, xyza = measurements(4)
    model = seven()
    with torch.no_grad():
        probabilities, decisions = model(rgb, xyza)
        logits = model.logits(rgb, xyza)
    expected = ((logits[0] / 0.5).softmax(dim=1) + (logits[1] / 2.0).softmax(dim=1)) / 2
    torch.testing.assert_close(probabilities, expected)
    assert probabilities.shape == (4, 7) and decisions.dtype == torch.int64
