"""The networks have the notebook's sizes; and properties of the networks of all fusions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.architectures import NOTEBOOK, SEVEN_CLASSES

from stages.lib import fusions
from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.models import networks
from stages.lib.models.architecture import Architecture

JOINT = fusions.names(*fusions.JOINT)
LATE = fusions.names("late")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("rgb", 13_128_351),
        ("lidar", 13_128_351),
        ("concatenation", 13_015_851),
        ("addition", 6_615_851),
        ("hadamard", 6_615_851),
        ("late", 26_256_743),
    ],
)
def test_parameter_counts_are_the_notebooks(name: str, parameters: int) -> None:
    assert networks.count_parameters(networks.sketch(name, NOTEBOOK)) == parameters


@pytest.mark.parametrize("name", ["rgb", "addition", "late"])
def test_initial_weights_have_the_variance_of_the_setting(name: str) -> None:
    for init, variance in (("pytorch", 1 / 3), ("lecun", 1.0)):
        torch.manual_seed(0)
        network = networks.build(name, replace(NOTEBOOK, init=init))
        layers = [
            layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)
        ]
        assert len(layers) >= 6
        for layer in layers:
            fan_in = layer.weight[0].numel()
            if layer.weight.numel() > 1000:
                assert float(layer.weight.detach().var()) * fan_in == pytest.approx(variance, rel=0.1)


def test_initial_weights_of_attention_too() -> None:
    """Queries, keys and values are in one matrix, which PyTorch initializes by Glorot's rule."""
    for init, variance in (("pytorch", 1 / 2), ("lecun", 1.0)):
        torch.manual_seed(0)
        network = networks.build("cross_attention", replace(NOTEBOOK, init=init))
        weight = network.fusion.rgb_attention.in_proj_weight.detach()
        assert float(weight.var()) * weight.shape[1] == pytest.approx(variance, rel=0.05)


def test_late_fusion_trains_41_weights() -> None:
    late = networks.build("late", NOTEBOOK)
    assert sum(weight.numel() for weight in late.parameters() if weight.requires_grad) == 41
    assert networks.count_parameters(networks.build_head("late", NOTEBOOK)) == 41


def test_default_settings_are_the_notebooks_sizes() -> None:
    from stages.lib import params

    network = params.load().network
    assert network.unimodal_channels == NOTEBOOK.unimodal_channels
    assert network.intermediate_channels == NOTEBOOK.intermediate_channels
    assert network.hidden == NOTEBOOK.hidden
    assert network.late_hidden == NOTEBOOK.late_hidden


def test_pooling_before_relu_equals_the_notebooks_network() -> None:
    """The same bits of outputs and gradients as with convolution, ReLU, pooling, the notebook's order."""
    ours = networks.encoder(4, (5, 6, 7), "maxpool")
    convolutions = [layer for layer in ours if isinstance(layer, torch.nn.Conv2d)]
    theirs = torch.nn.Sequential(
        *(part for layer in convolutions for part in (layer, torch.nn.ReLU(), torch.nn.MaxPool2d(2)))
    )
    images = torch.rand(3, 4, 32, 32)
    gradients = []
    for network in (ours, theirs):
        network.zero_grad()
        features = network(images)
        features.square().sum().backward()
        gradients.append([features.detach(), *(layer.weight.grad.clone() for layer in convolutions)])
    for left, right in zip(*gradients, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("name", ["rgb", "lidar", *JOINT, *LATE])
@pytest.mark.parametrize("sizes", [NOTEBOOK, SEVEN_CLASSES], ids=["notebook", "seven classes"])
def test_every_network_gives_a_logit_per_class(name: str, sizes: Architecture) -> None:
    shape = (sizes.image_size, sizes.image_size)
    rgb = torch.rand(2, sizes.rgb_channels, *shape)
    lidar = torch.rand(2, sizes.lidar_channels, *shape)
    assert networks.build(name, sizes)(rgb, lidar).shape == (2, sizes.num_logits)


@pytest.mark.parametrize("name", ["rgb", "lidar", *JOINT, *LATE])
def test_state_dict_holds_all_weights(name: str) -> None:
    """A second instance computes the same after loading: the state_dict holds all weights."""
    first, second = networks.build(name, SEVEN_CLASSES), networks.build(name, SEVEN_CLASSES)
    second.load_state_dict(first.state_dict(), strict=True)
    rgb, lidar = torch.rand(2, 3, 40, 40), torch.rand(2, 4, 40, 40)
    assert torch.equal(first(rgb, lidar), second(rgb, lidar))


def test_the_notebooks_fusions() -> None:
    rgb, lidar = torch.tensor([[[[2.0]]]]), torch.tensor([[[[3.0]]]])
    assert fusions.load("addition")(1)(rgb, lidar).item() == 5
    assert fusions.load("hadamard")(1)(rgb, lidar).item() == 6
    assert fusions.load("concatenation")(1)(rgb, lidar).flatten().tolist() == [2, 3]


def test_unimodal_networks_use_only_their_own_sensor() -> None:
    rgb, lidar = torch.rand(2, 4, 64, 64), torch.rand(2, 4, 64, 64)
    for name, inputs, blind in (
        ("rgb", (rgb, lidar), (rgb, torch.zeros_like(lidar))),
        ("lidar", (rgb, lidar), (torch.zeros_like(rgb), lidar)),
    ):
        net = networks.build(name, NOTEBOOK)
        assert torch.equal(net(*inputs), net(*blind))


def test_sizes_that_cannot_be_matched_are_refused() -> None:
    """With few narrow blocks and heads of few units, one unit is a few hundredths of the parameters."""
    sizes = replace(NOTEBOOK, intermediate_channels=(4, 6, 8), hidden=(21, 10), match_parameters=True)
    with pytest.raises(
        UserError, match=r"network\.match_parameters: concatenation comes no closer to [\d,]+ par"
    ):
        networks.build("concatenation", sizes)
    networks.build("concatenation", replace(sizes, hidden=(1000, 100)))


def test_unknown_fusion_is_refused() -> None:
    with pytest.raises(ValueError, match="no fusion named 'sum'"):
        fusions.load("sum")
    with pytest.raises(ValueError, match="'rgb' is a sensor"):
        fusions.load("rgb")


@pytest.mark.parametrize(
    ("name", "kind", "sensors", "has_frozen_nets"),
    [
        ("lidar", "unimodal", ("lidar",), False),
        ("early", "early", SENSORS, False),
        ("mmtm", "intermediate", SENSORS, False),
        ("late_mean", "late", SENSORS, True),
        ("late_finetuned", "late", SENSORS, False),
    ],
)
def test_the_kinds_of_models(name: str, kind: str, sensors: tuple[str, ...], has_frozen_nets: bool) -> None:
    spec = fusions.spec(name)
    assert (spec.kind, spec.sensors, spec.has_frozen_nets) == (kind, sensors, has_frozen_nets)
    network = networks.sketch(name, NOTEBOOK)
    assert list(network.frozen_nets) == (list(SENSORS) if has_frozen_nets else [])
    assert (network.own_weights is network) != has_frozen_nets
    assert (network.head_width is None) == (kind == "late")
