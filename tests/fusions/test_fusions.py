"""The contract of all fusions in the folder; the tests find new files by themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.architectures import NOTEBOOK, SEVEN_CLASSES
from support.manifest import made_up_manifest
from support.project import ROOT, committed
from torch import Tensor, nn
from torch.nn import functional as F

from scripts import fusion_docs
from stages.lib import fusions, params
from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.evaluation import cost
from stages.lib.fusions import tokens
from stages.lib.fusions.base import IntermediateFusion, LateFusion
from stages.lib.models import checkpoints, networks
from stages.lib.models.architecture import Architecture
from stages.lib.training import late

INTERMEDIATE = [
    name for name in fusions.names("intermediate") if issubclass(fusions.load(name), IntermediateFusion)
]
JOINT = fusions.names(*fusions.JOINT)
LATE = fusions.names("late")
TRAINED_AS_A_WHOLE = [name for name in [*JOINT, *LATE] if not fusions.spec(name).has_frozen_nets]
SMALL = Architecture(
    rgb_channels=3,
    lidar_channels=4,
    image_size=16,
    num_logits=1,
    unimodal_channels=(4, 6, 8),
    intermediate_channels=(4, 6, 8),
    hidden=(16, 8),
    late_hidden=10,
)


def inputs(sizes: Architecture, count: int = 2, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (sizes.image_size, sizes.image_size)
    return (
        torch.rand(count, sizes.rgb_channels, *shape, generator=generator),
        torch.rand(count, sizes.lidar_channels, *shape, generator=generator),
    )


def maps(count: int = 3, channels: int = 6, height: int = 6, width: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(2, count, channels, height, width).unbind()


def built(name: str, sizes: Architecture, seed: int = 0) -> networks.FusionNet:
    torch.manual_seed(seed)
    return networks.build(name, sizes)


def test_all_fusions_are_found() -> None:
    assert set(fusions.names("intermediate")) >= {
        "concatenation",
        "addition",
        "hadamard",
        "maximum",
        "mean",
        "weighted_sum",
        "gated",
        "film",
        "low_rank",
        "mmtm",
        "cross_attention",
        "bottleneck_attention",
        "matmul",
    }
    assert "early" in fusions.names("early")
    assert set(LATE) >= {"late", "late_mean", "late_product", "late_linear", "late_finetuned"}


@pytest.mark.parametrize("name", INTERMEDIATE)
@pytest.mark.parametrize("shape", [(6, 6), (5, 8), (7, 3), (1, 1)], ids=str)
def test_maps_of_any_shape(name: str, shape: tuple[int, int]) -> None:
    """`out_channels` channels, also for maps that are not square or of odd sizes; a gradient to both sensors."""
    fusion = fusions.load(name)(6)
    rgb, lidar = (part.requires_grad_() for part in maps(height=shape[0], width=shape[1]))
    if name == "matmul" and shape[0] != shape[1]:
        with pytest.raises(ValueError, match="square maps only, not"):
            fusion(rgb, lidar)
        return
    fused = fusion(rgb, lidar)
    assert fused.shape == (3, fusion.out_channels, *shape)
    fused.square().sum().backward()
    for part in (rgb, lidar):
        assert part.grad is not None and part.grad.abs().sum() > 0


@pytest.mark.parametrize("name", [*JOINT, *LATE])
@pytest.mark.parametrize("size", [16, 21], ids=["even", "odd"])
def test_gradients_reach_both_sensors_and_every_parameter(name: str, size: int) -> None:
    sizes = replace(SMALL, image_size=size)
    network = built(name, sizes)
    rgb, lidar = (part.requires_grad_() for part in inputs(sizes, 8))
    network(rgb, lidar).square().sum().backward()
    for part in (rgb, lidar):
        assert part.grad is not None and part.grad.abs().sum() > 0
    for parameter_name, parameter in network.own_weights.named_parameters():
        assert parameter.grad is not None, parameter_name
        # On so few samples some units of a ReLU may be 0, but not a whole layer.
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", [name for name in JOINT if name not in INTERMEDIATE])
def test_streams_of_any_shape(name: str) -> None:
    """Fusions between the blocks, on maps that are not square and of odd sizes; a gradient to both sensors."""
    fusion = fusions.load(name)(3, 4, (6, 8))
    rgb, lidar = torch.randn(2, 3, 5, 8, requires_grad=True), torch.randn(2, 4, 5, 8, requires_grad=True)
    streams = fusion.start(rgb, lidar)
    assert [stream.shape[1] for stream in streams] == list(fusion.stream_channels)
    for block, (channels, shape) in enumerate([(6, (5, 7)), (8, (1, 3))]):
        # In place of the blocks' convolutions: maps with their channels that depend on the input.
        streams = [
            stream.mean(dim=(1, 2, 3), keepdim=True) + torch.randn(2, channels, *shape) for stream in streams
        ]
        streams = fusion.exchange(block, streams)
        assert all(stream.shape == (2, channels, *shape) for stream in streams)
    fused = fusion.join(streams)
    assert fused.shape == (2, fusion.out_channels, 1, 3)
    fused.square().sum().backward()
    for part in (rgb, lidar):
        assert part.grad is not None and part.grad.abs().sum() > 0


def test_every_factor_has_a_gradient() -> None:
    """All parts of one tensor: low_rank's ranks; queries, keys and values of attention."""
    rgb, lidar = maps()
    low_rank = fusions.load("low_rank")(6)
    low_rank(rgb, lidar).square().sum().backward()
    for layer in (low_rank.rgb_factors, low_rank.lidar_factors):
        assert (layer.weight.grad.reshape(4, -1).abs().sum(dim=1) > 0).all()
    assert (low_rank.weights.grad.abs() > 0).all()
    attention = fusions.load("cross_attention")(6)
    attention(rgb, lidar).pow(3).sum().backward()
    for part in (attention.rgb_attention, attention.lidar_attention):
        assert (part.in_proj_weight.grad.reshape(3, -1).abs().sum(dim=1) > 1e-6).all()


@pytest.mark.parametrize("name", [*JOINT, *LATE])
def test_exchanging_the_sensors(name: str) -> None:
    """Leaves the result unchanged exactly for symmetric fusions."""
    operator = fusions.load(name)
    if issubclass(operator, LateFusion):
        fusion = operator(3, 10)
        rgb, lidar = torch.randn(2, 5, 3).unbind()
    elif issubclass(operator, IntermediateFusion):
        fusion = operator(6)
        rgb, lidar = maps()
    else:
        assert not hasattr(operator, "is_symmetric")
        return
    with torch.no_grad():  # initial weights may make an asymmetric fusion symmetric
        for parameter in fusion.parameters():
            parameter.normal_()
    assert torch.allclose(fusion(rgb, lidar), fusion(lidar, rgb), atol=1e-6) == operator.is_symmetric


@pytest.mark.parametrize("name", [*JOINT, *LATE])
def test_samples_do_not_mix(name: str) -> None:
    """Permuting the batch permutes the logits."""
    network = built(name, SMALL).eval()
    rgb, lidar = inputs(SMALL, 5)
    order = torch.tensor([3, 0, 4, 2, 1])
    assert torch.allclose(network(rgb, lidar)[order], network(rgb[order], lidar[order]), atol=1e-5)


@pytest.mark.parametrize("name", [*JOINT, *LATE])
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    rgb, lidar = inputs(SMALL)
    first, second, other = (after_two_steps(name, rgb, lidar, seed) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def after_two_steps(name: str, rgb: Tensor, lidar: Tensor, seed: int) -> Tensor:
    """A network's logits after two steps of training, if it has weights to train."""
    network = built(name, SMALL, seed)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-2) if trained else None
    for _ in range(2 if optimizer else 0):
        optimizer.zero_grad()
        network(rgb, lidar).square().sum().backward()
        optimizer.step()
    return network(rgb, lidar).detach()


@pytest.mark.parametrize("name", [*JOINT, *LATE])
def test_features_and_join_are_the_forward_pass(name: str) -> None:
    network = built(name, SMALL).eval()
    rgb, lidar = inputs(SMALL)
    joined = network.join(network.features("rgb", rgb), network.features("lidar", lidar))
    assert torch.equal(joined, network(rgb, lidar))


@pytest.mark.parametrize("name", [*JOINT, *LATE])
def test_bfloat16(name: str) -> None:
    """Close to float32, and with finite gradients."""
    network = built(name, replace(SMALL, init="lecun"))
    rgb, lidar = (8 * (part - 0.5) for part in inputs(SMALL, 16))
    exact = network(rgb, lidar)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(rgb, lidar).float()
    # Far less than the difference between samples.
    assert (rounded - exact).detach().abs().max() < 0.2 * exact.detach().std()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if trained:
        rounded.square().sum().backward()
        assert sum(float(parameter.grad.abs().sum()) for parameter in trained) > 0
    for parameter in trained:
        assert parameter.grad is not None and parameter.grad.isfinite().all()


TRACE = """
import sys
sys.path[:0] = ["tests", "tests/fusions"]
import torch
from test_fusions import SMALL, built, inputs
for name in sys.argv[1:]:
    network = built(name, SMALL)
    rgb, lidar = inputs(SMALL)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    results = []
    for _ in ("eager", "traced"):
        network.zero_grad()
        logits = network(rgb, lidar)
        if trained:
            logits.square().sum().backward()
        results.append([logits.detach(), *(parameter.grad.clone() for parameter in trained)])
        network.compile(backend="aot_eager", fullgraph=True)
    for eager, traced in zip(*results, strict=True):
        assert torch.allclose(eager, traced, atol=1e-5), name
    torch.compiler.reset()
    print(name)
"""


@pytest.mark.parametrize(
    "names",
    [
        ["cross_attention"],  # test_resume traces addition while it trains
        pytest.param([*JOINT, *LATE], marks=pytest.mark.sweep),
    ],
    ids=["one", "all"],
)
def test_tracing(names: list[str]) -> None:
    """torch.compile's tracer turns each network into one graph with the same results.

    In a separate process, since it cannot trace the type checks of the tests.
    """
    done = subprocess.run([sys.executable, "-c", TRACE, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == names


@pytest.mark.parametrize("name", [*JOINT, *LATE])
@pytest.mark.parametrize("sizes", [NOTEBOOK, SEVEN_CLASSES], ids=["notebook", "seven classes"])
@pytest.mark.parametrize("fuse_after", [1, 2, 3])
def test_the_formula_counts_the_operators_parameters(name: str, sizes: Architecture, fuse_after: int) -> None:
    blocks = sizes.intermediate_channels[:fuse_after]
    names = {"C": blocks[-1], "blocks": blocks, "K": sizes.num_logits, "h": sizes.late_hidden, "sum": sum}
    expected = eval(fusions.describe(name).parameters, {"__builtins__": {}} | names)
    network = networks.sketch(name, replace(sizes, fuse_after=fuse_after))
    assert networks.count_parameters(network.fusion) == expected


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("fuse_after", [1, 2, 3])
@pytest.mark.parametrize("downsample", ["maxpool", "stride"])
def test_fusion_after_any_block(name: str, fuse_after: int, downsample: str) -> None:
    sizes = replace(SMALL, image_size=21, fuse_after=fuse_after, downsample=downsample)
    network = networks.build(name, sizes)
    assert network(*inputs(sizes)).shape == (2, 1)
    convolutions = [
        layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)
    ]
    num_streams = len(network.blocks) if isinstance(network, networks.StreamNet) else 2
    assert len(convolutions) == num_streams * fuse_after + 3 - fuse_after
    strides = {layer.stride for layer in convolutions}
    assert strides == {(1, 1) if downsample == "maxpool" else (2, 2)}
    pools = [layer for layer in network.modules() if isinstance(layer, nn.MaxPool2d)]
    assert len(pools) == (len(convolutions) if downsample == "maxpool" else 0)


@pytest.mark.parametrize("fuse_after", [1, 2, 3])
def test_matched_networks_have_the_same_size(fuse_after: int) -> None:
    """Within 1 % of the notebook's addition, for every fusion."""
    sizes = replace(NOTEBOOK, match_parameters=True, fuse_after=fuse_after)
    counts = {name: networks.count_parameters(networks.sketch(name, sizes)) for name in [*JOINT, *LATE]}
    off = {name: count for name, count in counts.items() if abs(count / 6_615_851 - 1) > 0.01}
    assert not off
    last = replace(sizes, fuse_after=3)
    assert networks.sketch("addition", last).head_width == NOTEBOOK.hidden[0]
    assert networks.sketch("concatenation", last).head_width == pytest.approx(503, abs=3)
    assert networks.sketch("concatenation", NOTEBOOK).head_width == NOTEBOOK.hidden[0]


@pytest.mark.parametrize(
    ("name", "positions", "layers"), [("cross_attention", 64, 2), ("bottleneck_attention", 68, 4)]
)
def test_operations_of_attention_are_counted(name: str, positions: int, layers: int) -> None:
    """Beyond those of addition: two for each weight and position, and for each pair of positions and channel."""
    count, channels = cost.count, NOTEBOOK.intermediate_channels[-1]
    additional = count(built(name, NOTEBOOK).eval(), NOTEBOOK).flops_m
    additional -= count(built("addition", NOTEBOOK).eval(), NOTEBOOK).flops_m
    matrices = 4 + (2 if name == "bottleneck_attention" else 0)  # of attention, and of the perceptron
    products = positions * matrices * channels**2 + 2 * positions**2 * channels
    assert additional == pytest.approx(2 * layers * products / 1e6, rel=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_bottlenecks_carry_each_sensor_to_the_other(layers: int) -> None:
    """From the second layer on; with one layer the output is a sum of functions of each sensor alone."""
    torch.manual_seed(0)
    fusion = fusions.load("bottleneck_attention")(6).double().eval()
    fusion.rgb_layers, fusion.lidar_layers = fusion.rgb_layers[:layers], fusion.lidar_layers[:layers]
    (rgb, lidar), (other_rgb, other_lidar) = (
        [sensor.double() for sensor in maps()],
        [sensor.double() for sensor in maps()],
    )
    with torch.no_grad():
        same = fusion(rgb, lidar) + fusion(other_rgb, other_lidar)
        crossed = fusion(rgb, other_lidar) + fusion(other_rgb, lidar)
    difference = float((same - crossed).abs().max())
    assert difference < 1e-10 if layers == 1 else difference > 1e-4


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class Sum(IntermediateFusion): ...", r"half_sum\.py: its fusion has to be a class named HalfSum"),
        (
            "class HalfSum(nn.Module): ...",
            "derives from IntermediateFusion, StreamFusion, EarlyFusion or LateFusion",
        ),
        ("class HalfSum(", r"half_sum\.py, line 1: '\(' was never closed"),
    ],
)
def test_a_file_without_its_fusion_is_an_error(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_sum.py").write_text(source)
    monkeypatch.setattr(fusions, "_FOLDER", tmp_path)
    with pytest.raises(UserError, match=message):
        fusions.names("intermediate")


def test_shared_code_is_not_a_fusion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halves.py").write_text("class Half:\n    pass\n\ndef half(x): return x / 2\n")
    (tmp_path / "half_sum.py").write_text("from . import base\nclass HalfSum(base.LateFusion): ...\n")
    monkeypatch.setattr(fusions, "_FOLDER", tmp_path)
    assert fusions.names(*fusions.KINDS) == fusions.names("late") == ["half_sum"]


def test_finetuning_starts_from_the_trained_networks(tmp_path: Path) -> None:
    """Their weights are in models/; all weights train, and are loaded from the fusion's own file."""
    models, nets = tmp_path / "models", {}
    for sensor in SENSORS:
        nets[sensor] = built(sensor, SMALL, seed=5)
        path = checkpoints.weights_path(models, sensor, 7)
        path.parent.mkdir(parents=True)
        save_file(nets[sensor].state_dict(), path)
    data = made_up_manifest(
        ("cubes", "spheres"),
        {split: {"cubes": 0, "spheres": 0} for split in ("train", "validation", "test")},
        {"train": 60, "validation": 40, "test": 100},
    )
    whole = late.TrainedNets(fusions.spec("late_finetuned"), SMALL, data, tmp_path, models).whole(7)
    for sensor, net in zip(SENSORS, (whole.rgb_net, whole.lidar_net), strict=True):
        for name, weight in net.state_dict().items():
            assert torch.equal(weight, nets[sensor].state_dict()[name])
    assert all(weight.requires_grad for weight in whole.parameters())
    with torch.no_grad():
        for weight in whole.parameters():
            weight.add_(1)
    path = checkpoints.weights_path(models, "late_finetuned", 7)
    path.parent.mkdir()
    save_file(whole.own_weights.state_dict(), path)
    loaded = checkpoints.load_network("late_finetuned", 7, SMALL, models)
    assert torch.equal(loaded(*inputs(SMALL)), whole(*inputs(SMALL)))


def test_low_rank_is_the_sum_over_ranks() -> None:
    """Equals Liu et al.'s formula at each position: products of factors on vectors with a 1 appended."""
    torch.manual_seed(0)
    fusion = fusions.load("low_rank")(5)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.normal_()
    rgb, lidar = maps(2, 5, 3, 4)
    factors = []
    for layer in (fusion.rgb_factors, fusion.lidar_factors):
        weights = layer.weight.reshape(4, 5, 5)
        factors.append(torch.cat([weights, layer.bias.reshape(4, 5, 1)], dim=2))
    expected = torch.empty(2, 5, 3, 4)
    for sample in range(2):
        for i in range(3):
            for j in range(4):
                rgb_vector = torch.cat([rgb[sample, :, i, j], torch.ones(1)])
                lidar_vector = torch.cat([lidar[sample, :, i, j], torch.ones(1)])
                total = fusion.bias.flatten().clone()
                for rank in range(4):
                    product = (factors[0][rank] @ rgb_vector) * (factors[1][rank] @ lidar_vector)
                    total = total + fusion.weights[rank].flatten() * product
                expected[sample, :, i, j] = total
    assert torch.allclose(fusion(rgb, lidar), expected, atol=1e-4)


def test_mmtm_squeezes_and_excites() -> None:
    """Equals Joze et al.'s formula, value by value."""
    torch.manual_seed(0)
    fusion = fusions.load("mmtm")(3, 4, (4, 6))
    rgb, lidar = maps(2, 6, 3, 5)
    squeeze, *gates = fusion.squeezes[1], fusion.rgb_gates[1], fusion.lidar_gates[1]
    found = fusion.exchange(1, [rgb, lidar])
    for sample in range(2):
        means = torch.stack([part[sample, c].mean() for part in (rgb, lidar) for c in range(6)])
        summary = (squeeze.weight @ means + squeeze.bias).clamp(min=0)
        for part, gate, result in zip((rgb, lidar), gates, found, strict=True):
            for channel in range(6):
                logit = gate.weight[channel] @ summary + gate.bias[channel]
                expected = 2 / (1 + torch.exp(-logit)) * part[sample, channel]
                assert torch.allclose(result[sample, channel], expected, atol=1e-5)
    assert torch.equal(fusion.join([rgb, lidar]), rgb + lidar)


def test_matmul_multiplies_each_channel() -> None:
    rgb, lidar = maps(2, 3, 4, 4)
    fused = fusions.load("matmul")(3)(rgb, lidar)
    for sample in range(2):
        for channel in range(3):
            for i in range(4):
                for j in range(4):
                    cell = sum(rgb[sample, channel, i, k] * lidar[sample, channel, k, j] for k in range(4))
                    assert torch.allclose(fused[sample, channel, i, j], cell, atol=1e-5)


def test_film_modulates_each_sensor_by_the_other() -> None:
    torch.manual_seed(0)
    fusion = fusions.load("film")(3)
    rgb, lidar = maps(2, 3, 4, 5)
    fused = fusion(rgb, lidar)
    for sample in range(2):
        from_lidar = fusion.from_lidar(torch.stack([lidar[sample, c].mean() for c in range(3)]))
        from_rgb = fusion.from_rgb(torch.stack([rgb[sample, c].mean() for c in range(3)]))
        for c in range(3):
            expected = (1 + from_lidar[c]) * rgb[sample, c] + from_lidar[3 + c]
            expected = expected + (1 + from_rgb[c]) * lidar[sample, c] + from_rgb[3 + c]
            assert torch.allclose(fused[sample, c], expected, atol=1e-5)


def test_gated_weights_each_sensor_by_the_gate() -> None:
    """Equals Arevalo et al.'s formula at each position."""
    torch.manual_seed(0)
    fusion = fusions.load("gated")(3)
    rgb, lidar = maps(2, 3, 4, 5)
    fused = fusion(rgb, lidar)

    def at(layer: nn.Conv2d, features: Tensor) -> Tensor:
        return layer.weight[:, :, 0, 0] @ features + layer.bias

    for sample in range(2):
        for i in range(4):
            for j in range(5):
                v, u = rgb[sample, :, i, j], lidar[sample, :, i, j]
                z = torch.sigmoid(at(fusion.gate, torch.cat([v, u])))
                expected = z * torch.tanh(at(fusion.rgb_features, v))
                expected = expected + (1 - z) * torch.tanh(at(fusion.lidar_features, u))
                assert torch.allclose(fused[sample, :, i, j], expected, atol=1e-5)


def test_cross_attention_attends_to_the_other_sensor() -> None:
    """Equals the formula, head by head: queries of one sensor, keys and values of the other."""
    torch.manual_seed(0)
    fusion = fusions.load("cross_attention")(8).eval()
    rgb, lidar = maps(1, 8, 2, 3)
    r, l = (tokens.to_tokens(part)[0] for part in (rgb, lidar))  # noqa: E741

    def attended(layer: nn.MultiheadAttention, q: Tensor, m: Tensor) -> Tensor:
        weights, biases = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
        query, key, value = (
            part @ weight.T + bias for part, weight, bias in zip((q, m, m), weights, biases, strict=True)
        )
        heads = [
            torch.softmax(query[:, at] @ key[:, at].T / 4**0.5, dim=1) @ value[:, at]
            for at in (slice(0, 4), slice(4, 8))
        ]
        return layer.out_proj(torch.cat(heads, dim=1))

    expected = fusion.rgb_norm(r + attended(fusion.rgb_attention, r, l))
    expected = expected + fusion.lidar_norm(l + attended(fusion.lidar_attention, l, r))
    assert torch.allclose(fusion(rgb, lidar)[0].flatten(1).T, expected, atol=1e-5)


def test_simple_operators() -> None:
    rgb, lidar = torch.tensor([[[[2.0]]]]), torch.tensor([[[[3.0]]]])
    assert fusions.load("maximum")(1)(rgb, lidar).item() == 3
    assert fusions.load("mean")(1)(rgb, lidar).item() == 2.5
    weighted = fusions.load("weighted_sum")(1)
    nn.init.constant_(weighted.rgb_weight, 10.0)
    assert weighted(rgb, lidar).item() == 23
    logits = torch.tensor([[2.0, -1.0]]), torch.tensor([[4.0, 0.0]])
    assert fusions.load("late_mean")(2, 10)(*logits).tolist() == [[3.0, -0.5]]
    product = fusions.load("late_product")(2, 10)
    nn.init.constant_(product.log_temperatures, float(torch.tensor(2.0).log()))
    assert torch.allclose(product(*logits), torch.tensor([[3.0, -0.5]]))
    linear = fusions.load("late_linear")(1, 10)
    linear.linear.weight.data, linear.linear.bias.data = torch.tensor([[2.0, 10.0]]), torch.tensor([0.5])
    assert linear(torch.tensor([[1.0]]), torch.tensor([[3.0]])).item() == 32.5
    (stacked,) = fusions.load("early")(1, 1, (4,)).start(rgb, lidar)
    assert stacked.flatten().tolist() == [2, 3]


def test_attention_uses_positions() -> None:
    """Without positions, flipping both sensors' maps would flip the result."""
    for name in ("cross_attention", "bottleneck_attention"):
        torch.manual_seed(0)
        fusion = fusions.load(name)(8).eval()
        rgb, lidar = maps(1, 8, 4, 4)
        turned = fusion(rgb.flip(2), lidar.flip(2))
        assert not torch.allclose(turned, fusion(rgb, lidar).flip(2), atol=1e-3), name


def xor_task(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Labels: whether exactly one of two sensors shows a bright square; one sensor alone carries no information."""
    generator = torch.Generator().manual_seed(count)
    shown = torch.randint(0, 2, (2, count), generator=generator).float()
    inputs = []
    for is_shown, channels in zip(shown, (3, 4), strict=True):
        noise = 0.1 * torch.rand(count, channels, 16, 16, generator=generator)
        noise[:, :, 4:12, 4:12] += is_shown[:, None, None, None]
        inputs.append(noise)
    return inputs[0], inputs[1], (shown[0] != shown[1]).float()


def accuracy_on_xor(network: nn.Module) -> float:
    """Accuracy on 256 new samples after training on 64."""
    rgb, lidar, labels = xor_task(64)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(150):
        loss = F.binary_cross_entropy_with_logits(network(rgb, lidar)[:, 0], labels)
        if loss < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rgb, lidar, labels = xor_task(256)
    with torch.no_grad():
        return float(((network(rgb, lidar)[:, 0] > 0) == (labels > 0.5)).float().mean())


@pytest.mark.parametrize("name", ["rgb", "lidar", *TRAINED_AS_A_WHOLE])
def test_exclusive_or_needs_both_sensors(name: str) -> None:
    accuracy = accuracy_on_xor(built(name, replace(SMALL, init="lecun")))
    if name in ("rgb", "lidar"):
        assert accuracy < 0.65
    else:
        assert accuracy > 0.95


def test_a_fusion_without_weights_has_one_epoch(tmp_path: Path) -> None:
    """Its losses are computed once, and its weights are an empty file."""
    from stages.lib.training import loop, resume
    from stages.lib.training.inputs import CachedLogits
    from stages.lib.training.settings import train_config

    head = fusions.load("late_mean")(1, 10)
    logits = torch.tensor([[2.0], [-2.0]])
    part = CachedLogits(logits, logits, torch.tensor([1, 0]), (torch.zeros(1), torch.zeros(1)))
    config = train_config(params.load().train, fusions.spec("late_mean"))
    state = loop.fit(
        head, part, part, config=config, seed=0, device=torch.device("cpu"), on_epoch=lambda state: None
    )
    assert [epoch.epoch for epoch in state.history] == [1] and state.best_epoch == 1
    assert state.history[0].valid_loss == pytest.approx(float(F.softplus(torch.tensor(-2.0))))
    scratch = resume.Scratch(tmp_path)
    scratch.finish(0, state)
    assert scratch.load_finished(0) is not None


def test_the_list_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    from stages import train

    train.main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    for name in [*JOINT, *LATE]:
        (line,) = [line for line in lines if line.split() and line.split()[0] == name]
        assert fusions.spec(name).kind in line and fusions.describe(name).formula[:20] in line
    assert any("6,615,851" in line and line.startswith("addition") for line in lines)


def test_the_page_is_current() -> None:
    """`python -m scripts.fusion_docs` writes it."""
    zoo_report = committed(fusion_docs.ZOO_REPORT.as_posix())
    assert fusion_docs.PAGE.read_text() == fusion_docs.page(zoo_report)


@pytest.mark.parametrize("name", [*JOINT, *LATE])
def test_every_fusion_is_described(name: str) -> None:
    described = fusions.describe(name)
    assert len(described.summary) > 20
    assert "not given" not in vars(described).values()
    assert re.search(r"\by\[[^]]+\] = ", described.formula), "the formula needs the result with its shape"
