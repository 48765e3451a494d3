"""Which sensor a model uses: from given accuracies, and for networks that use a single sensor."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support.project import Project
from torch import Tensor

from stages.lib import params
from stages.lib.comparison import sensor_use
from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.evaluation import robustness, sensor_logits, sensor_states
from stages.lib.evaluation.decisions import Decisions
from stages.lib.evaluation.results import Probes
from stages.lib.evaluation.robustness import TrainedModel
from stages.lib.evaluation.sensor_states import EvaluationData, SensorState
from stages.lib.models import networks
from stages.lib.models.architecture import Architecture
from stages.lib.models.networks import FusionNet
from stages.lib.params import Evaluate
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.groups import CachedGroup
from stages.lib.tensors.split import Split

CPU = torch.device("cpu")


def probes(clean: float, without_rgb: float, without_lidar: float, shuffled: dict[str, float]) -> Probes:
    missing = {"rgb": without_rgb, "lidar": without_lidar, "both": 0.5}
    return Probes(clean, missing, shuffled, {})


def test_shapley_by_hand() -> None:
    """Together 0.9, RGB alone 0.8, LiDAR alone 0.6, nothing 0.5."""
    values = sensor_use.shapley(probes(0.9, 0.6, 0.8, {}))
    assert values["rgb"] == pytest.approx(((0.8 - 0.5) + (0.9 - 0.6)) / 2)
    assert values["lidar"] == pytest.approx(((0.6 - 0.5) + (0.9 - 0.8)) / 2)
    assert sum(values.values()) == pytest.approx(0.9 - 0.5)


def test_a_sensor_without_effect_is_ignored() -> None:
    seeds = [
        probes(0.9, 0.5, 0.9, {"rgb": 0.5, "lidar": 0.895}),
        probes(0.92, 0.5, 0.915, {"rgb": 0.5, "lidar": 0.92}),
    ]
    uses = sensor_use.uses(seeds, 0.95, 0.01)
    assert uses["lidar"].is_ignored and not uses["rgb"].is_ignored
    assert uses["rgb"].lost_missing.mean == pytest.approx(0.41)
    # A sensor is used if shuffling reduces the accuracy, even if missing inputs do not.
    used = sensor_use.uses([probes(0.9, 0.5, 0.9, {"rgb": 0.5, "lidar": 0.7})], 0.95, 0.01)
    assert not used["lidar"].is_ignored and used["lidar"].lost_missing.low is None


def test_without_permutations() -> None:
    uses = sensor_use.uses([probes(0.9, 0.5, 0.9, {})], 0.95, 0.01)
    assert uses["lidar"].lost_shuffled is None and uses["lidar"].is_ignored


def measured(
    nets: dict[int, FusionNet], split: Split, settings: Evaluate, shares: tuple[float, float] = (0.5, 0.5)
) -> tuple[dict[int, Probes], Decisions]:
    missing = sensor_states.missing_inputs("zeros", split)
    groups = [
        CachedGroup("train", f"{i}", f"{i}", int(label), 1, 1.0) for i, label in enumerate(split.labels)
    ]
    data = EvaluationData({"train": split}, "train", groups, missing, np.array(shares), settings)
    with robustness.thread_pool(CPU) as pool:
        model = TrainedModel(nets, SENSORS, partial(sensor_states.features, nets, data, CPU), pool)
        clean = model.clean("train")
        logits = model.logits(clean, settings.batch_size)
        return robustness.measure_robustness(model, data, clean, logits, "robustness")


class _OneSensorNet(FusionNet):
    """Predicts classes from the mean of one sensor's inputs; counts how often features are computed."""

    def __init__(self, sensor: str, threshold: float) -> None:
        super().__init__()
        self.uses, self.threshold, self.calls = sensor, threshold, 0

    def features(self, sensor: str, inputs: Tensor) -> Tensor:
        self.calls += 1
        return inputs.mean(dim=(1, 2, 3))[:, None]

    def join(self, rgb: Tensor, lidar: Tensor) -> Tensor:
        return (rgb if self.uses == "rgb" else lidar) - self.threshold


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_network_that_uses_one_sensor(tiny_run: Project, sensor: str) -> None:
    other = {"rgb": "lidar", "lidar": "rgb"}[sensor]
    folder = tiny_run.path("data/tensors")
    split = Split(folder, manifests.load(folder), "train")
    means = split.batch(range(len(split)))[SENSORS.index(sensor)].mean(dim=(1, 2, 3))
    # Between two samples, so that rounding has no effect.
    ranked = means.sort().values
    middle = len(ranked) // 2
    network = _OneSensorNet(sensor, float(ranked[middle - 1 : middle + 1].mean()))
    # As if the classes differed in that sensor's mean input.
    split.labels = (means > network.threshold).long()
    settings = replace(params.load().evaluate, permutations=5)
    probes, decisions = measured({7: network}, split, settings)
    found = probes[7]
    assert found.clean == 1
    assert found.missing[other] == found.shuffled[other] == 1
    assert found.missing[sensor] == found.missing["both"] == 0.5
    assert 0.3 < found.shuffled[sensor] < 0.75
    assert all(set(curve.values()) == {1.0} for curve in found.corrupted[other].values())
    use = sensor_use.uses([found], 0.95, 0.01)
    assert use[other].is_ignored and not use[sensor].is_ignored
    assert list(found.corrupted["rgb"]["noise"]) == ["0", *map(str, settings.severities)]
    # Once for each state of a sensor: as measured, missing, and every corruption at every severity; a late scan needs
    # scenes with several groups.
    assert network.calls == 2 + 2 + len(settings.severities) * (5 + 9)
    labels = split.labels.numpy()
    assert (decisions.decided["clean"][0] == labels).all()
    right = (decisions.decided[f"{sensor} missing"][0] == labels).mean()
    assert right == 0.5 and (decisions.decided[f"{other} missing"][0] == labels).all()
    assert len(decisions.decided) == 4 + len(settings.severities) * (5 + 9)


def test_an_informative_network_ignores_no_sensor_on_unequal_classes(tiny_run: Project) -> None:
    """15:1 classes: its most probable class is always the common one, and it still uses its sensor."""
    folder = tiny_run.path("data/tensors")
    split = Split(folder, manifests.load(folder), "train")
    means = split.batch(range(len(split)))[0].mean(dim=(1, 2, 3))
    threshold = float(means.median()) + 1e-4
    split.labels = (means > threshold).long()
    prior = float(np.log(1 / 15))
    network = _OneSensorNet("rgb", threshold - prior)  # its log-odds are those of classes of 15:1
    assert (means - threshold + prior < 0).all()
    settings = replace(params.load().evaluate, severities=[])
    plain = measured({7: network}, split, settings)[0][7]
    weighed = measured({7: network}, split, settings, (15 / 16, 1 / 16))[0][7]
    assert sensor_use.uses([plain], 0.95, 0.03)["rgb"].is_ignored
    assert weighed.clean == 1 and not sensor_use.uses([weighed], 0.95, 0.03)["rgb"].is_ignored


def test_networks_without_features_keep_their_inputs_once(tiny_run: Project) -> None:
    """All seeds' networks share one tensor of a sensor's inputs."""
    folder = tiny_run.path("data/tensors")
    split = Split(folder, manifests.load(folder), "train")
    seen: list[tuple[int, int]] = []

    class Whole(FusionNet):
        def features(self, sensor: str, inputs: Tensor) -> Tensor:
            return inputs

        def join(self, rgb: Tensor, lidar: Tensor) -> Tensor:
            seen.append((id(self), rgb.data_ptr()))
            return (rgb - lidar[:, : rgb.shape[1]]).mean(dim=(1, 2, 3))[:, None]

    settings = replace(params.load().evaluate, permutations=0, severities=[])
    nets = {1: Whole(), 2: Whole()}
    measured(nets, split, settings)
    first, second = ({address for net, address in seen if net == id(nets[seed])} for seed in nets)
    assert first == second


def test_mean_inputs_stand_for_a_missing_sensor(tiny_run: Project) -> None:
    folder = tiny_run.path("data/tensors")
    split = Split(folder, manifests.load(folder), "train")
    rgb, lidar = split.batch(range(len(split)))
    missing = sensor_states.missing_inputs("mean", split)
    for sensor, inputs in (("rgb", rgb), ("lidar", lidar)):
        expected = inputs.double().mean(dim=(0, 2, 3)).float()[:, None, None].expand_as(inputs[0])
        assert torch.allclose(missing[sensor], expected, atol=1e-6)
    assert np.isclose(sensor_states.missing_inputs("zeros", split)["lidar"].abs().sum(), 0)


def test_frozen_nets_logits_are_computed_once(
    tiny_run: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logits that a late fusion reads equal, bit for bit, those that it would compute."""
    folder = tiny_run.path("data/tensors")
    manifest = manifests.load(folder)
    settings = replace(params.load().evaluate, severities=[3])
    split = Split(folder, manifest, "validation")
    missing = sensor_states.missing_inputs("zeros", split)
    groups = stored_groups.read(folder, "validation")
    data = EvaluationData(
        {"validation": split}, "validation", groups, missing, manifest.class_shares, settings
    )
    late = networks.build("late", Architecture.from_settings(manifest, params.load().network)).eval()
    monkeypatch.chdir(tmp_path)
    for sensor, net in (("rgb", late.rgb_net), ("lidar", late.lidar_net)):
        wanted = data.states(sensor)
        found = {state: sensor_states.features({7: net}, data, CPU, state) for state in wanted}
        sensor_logits.write(sensor, found, {7: "a digest"})
        for state, stored in sensor_logits.read(sensor, wanted, {7: "a digest"}, CPU).items():
            assert torch.equal(stored[7], sensor_states.features({7: late}, data, CPU, state)[7])
        with pytest.raises(UserError, match=f"logits of other weights than those in models/{sensor}; "):
            sensor_logits.read(sensor, wanted, {7: "another digest"}, CPU)
        with pytest.raises(UserError, match="validation 4"):
            sensor_logits.read(sensor, [SensorState(sensor, "validation", 4)], {7: "a digest"}, CPU)
    Path("data/logits/rgb.safetensors").unlink()
    with pytest.raises(UserError, match="`dvc repro` evaluates that sensor's networks first"):
        sensor_logits.read("rgb", [SensorState("rgb", "validation")], {7: "a digest"}, CPU)
