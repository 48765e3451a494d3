"""The networks: encoders, a fusion, a head.

B = batch, C = channels, H, W = height and width of the inputs
K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib import fusions
from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.fusions import ModelSpec
from stages.lib.fusions.base import IntermediateFusion, LateFusion, StreamFusion
from stages.lib.models.architecture import Architecture

Net = TypeVar("Net", bound=nn.Module)


def encoder(in_channels: int, channels: tuple[int, ...], downsample: str) -> nn.Sequential:
    """Blocks of a 3x3 convolution with padding 1, ReLU and 2x2 max pooling; or of one with stride 2, and ReLU.

    Pooling comes before ReLU here: both orders give the same bits, and ReLU then has a quarter of the work.
    """
    layers: list[nn.Module] = []
    for out_channels in channels:
        if downsample == "maxpool":
            layers += [nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        else:
            layers += [nn.Conv2d(in_channels, out_channels, 3, padding=1, stride=2), nn.ReLU()]
        in_channels = out_channels
    return nn.Sequential(*layers)


def head(in_features: int, hidden: tuple[int, ...], num_logits: int) -> nn.Sequential:
    """Flattens the maps; then fully connected layers with ReLU between."""
    layers: list[nn.Module] = [nn.Flatten()]
    for out_features in hidden:
        layers += [nn.Linear(in_features, out_features), nn.ReLU()]
        in_features = out_features
    return nn.Sequential(*layers, nn.Linear(in_features, num_logits))


class FusionNet(nn.Module, ABC):
    """A network of two steps: `features` sees one sensor alone, `join` the features of both.

    So evaluation computes the features of one sensor once and joins them with the other sensor in many states.
    """

    head: nn.Sequential
    head_width: int | None = (
        None  # units of the head's first layer; None for late fusions, whose networks have heads
    )

    @abstractmethod
    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Tensor: ...

    @abstractmethod
    def join(self, rgb: Tensor, lidar: Tensor) -> Float[Tensor, "B K"]: ...

    def forward(self, rgb: Float[Tensor, "B _ H W"], lidar: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B K"]:
        return self.join(self.features("rgb", rgb), self.features("lidar", lidar))

    @property
    def own_weights(self) -> nn.Module:
        """The part that this model's training changes and whose weights are in this model's files."""
        return self

    @property
    def frozen_nets(self) -> dict[str, nn.Module]:
        """By sensor, the other models' trained networks that this one contains."""
        return {}

    def _add_head(self, spec: ModelSpec, channels: int, architecture: Architecture, num_blocks: int) -> None:
        """Adds the head on maps of these channels after so many blocks.

        Call this last: with `match_parameters`, the head's width depends on the parameters of all other parts.

        Raises:
            UserError: when no width gives about the common number of parameters.
        """
        in_features = channels * architecture.map_side(num_blocks) ** 2
        self.head_width = architecture.hidden[0]
        if architecture.match_parameters:
            self.head_width = _matched_width(spec, count_parameters(self), in_features, architecture)
        hidden = (self.head_width, *architecture.hidden[1:])
        self.head = head(in_features, hidden, architecture.num_logits)


class UnimodalNet(FusionNet):
    """One sensor's encoder and head. Its inputs are those of both sensors, as for every network; it uses its own."""

    def __init__(self, spec: ModelSpec, architecture: Architecture) -> None:
        super().__init__()
        self.sensor = spec.name
        in_channels = {"rgb": architecture.rgb_channels, "lidar": architecture.lidar_channels}[spec.name]
        channels = architecture.unimodal_channels
        self.encoder = encoder(in_channels, channels, architecture.downsample)
        self._add_head(spec, channels[-1], architecture, len(channels))

    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Tensor:
        """The logits for the network's own sensor; the inputs unchanged for the other one."""
        return self.head(self.encoder(inputs)) if sensor == self.sensor else inputs

    def join(self, rgb: Tensor, lidar: Tensor) -> Float[Tensor, "B K"]:
        return rgb if self.sensor == "rgb" else lidar


class IntermediateNet(FusionNet):
    """An encoder per sensor, a fusion of their maps, the remaining blocks, one head."""

    def __init__(
        self, spec: ModelSpec, operator: type[IntermediateFusion], architecture: Architecture
    ) -> None:
        super().__init__()
        channels = architecture.intermediate_channels
        own = channels[: architecture.fuse_after]
        self.rgb_encoder = encoder(architecture.rgb_channels, own, architecture.downsample)
        self.lidar_encoder = encoder(architecture.lidar_channels, own, architecture.downsample)
        self.fusion = operator(own[-1])
        self.shared, out_channels = _shared_blocks(self.fusion.out_channels, architecture)
        self._add_head(spec, out_channels, architecture, len(channels))

    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B C h w"]:
        return self.rgb_encoder(inputs) if sensor == "rgb" else self.lidar_encoder(inputs)

    def join(self, rgb: Float[Tensor, "B C h w"], lidar: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K"]:
        return self.head(self.shared(self.fusion(rgb, lidar)))


class StreamNet(FusionNet):
    """One encoder for each of the fusion's streams, which the fusion may change after each block; one head.

    The features of each sensor depend on the other one, so all computation takes place in `join`.
    """

    def __init__(self, spec: ModelSpec, operator: type[StreamFusion], architecture: Architecture) -> None:
        super().__init__()
        channels = architecture.intermediate_channels
        own = channels[: architecture.fuse_after]
        self.fusion = operator(architecture.rgb_channels, architecture.lidar_channels, own)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                encoder(in_channels, (out_channels,), architecture.downsample)
                for in_channels, out_channels in itertools.pairwise((first, *own))
            )
            for first in self.fusion.stream_channels
        )
        self.shared, out_channels = _shared_blocks(self.fusion.out_channels, architecture)
        self._add_head(spec, out_channels, architecture, len(channels))

    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B _ H W"]:
        return inputs

    def join(self, rgb: Float[Tensor, "B _ H W"], lidar: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B K"]:
        streams = self.fusion.start(rgb, lidar)
        for number, blocks in enumerate(zip(*self.blocks, strict=True)):
            streams = [block(maps) for block, maps in zip(blocks, streams, strict=True)]
            streams = self.fusion.exchange(number, streams)
        return self.head(self.shared(self.fusion.join(streams)))


class LateNet(FusionNet):
    """Two trained unimodal networks and a fusion of their logits; frozen networks, unless the fusion trains them."""

    def __init__(self, rgb_net: UnimodalNet, lidar_net: UnimodalNet, fusion: LateFusion) -> None:
        super().__init__()
        self.rgb_net = rgb_net.requires_grad_(fusion.trains_nets)
        self.lidar_net = lidar_net.requires_grad_(fusion.trains_nets)
        self.fusion = fusion

    @property
    def own_weights(self) -> nn.Module:
        return self if self.fusion.trains_nets else self.fusion

    @property
    def frozen_nets(self) -> dict[str, nn.Module]:
        return {} if self.fusion.trains_nets else {"rgb": self.rgb_net, "lidar": self.lidar_net}

    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B K"]:
        return (self.rgb_net if sensor == "rgb" else self.lidar_net).features(sensor, inputs)

    def join(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.fusion(rgb, lidar)


def build(name: str, architecture: Architecture) -> FusionNet:
    """The untrained network of this name: a sensor or a file in fusions/.

    Raises:
        ValueError: when there is no network of this name.
        UserError: when `match_parameters` cannot be met.
    """
    spec = fusions.spec(name)
    operator = spec.operator
    if operator is None:
        return _build_unimodal(name, architecture)
    if issubclass(operator, IntermediateFusion):
        return _initialized(IntermediateNet(spec, operator, architecture), architecture.init)
    if issubclass(operator, StreamFusion):
        return _initialized(StreamNet(spec, operator, architecture), architecture.init)
    rgb_net, lidar_net = (_build_unimodal(sensor, architecture) for sensor in SENSORS)
    return LateNet(rgb_net, lidar_net, build_head(name, architecture))


def sketch(name: str, architecture: Architecture) -> FusionNet:
    """The network of this name with the shapes of its weights but without values: takes neither time nor memory."""
    with torch.device("meta"):
        return build(name, architecture)


def _build_unimodal(sensor: str, architecture: Architecture) -> UnimodalNet:
    return _initialized(UnimodalNet(fusions.spec(sensor), architecture), architecture.init)


def _matched_width(
    spec: ModelSpec, other_parameters: int, in_features: int, architecture: Architecture
) -> int:
    """The width of the head's first layer with which all models have about the same number of parameters.

    The common number is that of two whole encoders and a head on as many channels as one of them has, as in
    addition. A late fusion contains two unimodal networks, so each of these has half of it.

    Args:
        other_parameters: number of the network's parameters outside the head.
        in_features: of the head.

    Raises:
        UserError: when no width comes within a hundredth of that number.
    """
    channels, hidden = architecture.intermediate_channels, architecture.hidden
    common = _head_parameters(
        channels[-1] * architecture.map_side(len(channels)) ** 2, hidden, architecture.num_logits
    )
    for in_channels in (architecture.rgb_channels, architecture.lidar_channels):
        pairs = itertools.pairwise((in_channels, *channels))
        common += sum(
            (9 * before + 1) * after for before, after in pairs
        )  # weights and biases of 3x3 convolutions
    wanted = common * len(spec.sensors) / len(SENSORS)
    one, two = (
        other_parameters + _head_parameters(in_features, (width, *hidden[1:]), architecture.num_logits)
        for width in (1, 2)
    )
    width = max(1, round(1 + (wanted - one) / (two - one)))
    reached = one + (width - 1) * (two - one)
    if abs(reached - wanted) > wanted / 100:
        raise UserError(
            f"params.yaml: network.match_parameters: {spec.name} comes no closer to {wanted:,.0f} parameters than "
            f"{reached:,}, with {width} units in the head's first layer; widen network.hidden, or switch it off"
        )
    return width


def _head_parameters(in_features: int, hidden: tuple[int, ...], num_logits: int) -> int:
    """Number of weights and biases of `head`."""
    return sum(
        (before + 1) * after for before, after in itertools.pairwise((in_features, *hidden, num_logits))
    )


def build_head(name: str, architecture: Architecture) -> LateFusion:
    """The untrained head of a late fusion, without the unimodal networks."""
    operator = fusions.load(name)
    assert issubclass(operator, LateFusion), f"{name} is not a late fusion"
    return _initialized(operator(architecture.num_logits, architecture.late_hidden), architecture.init)


def _initialized(network: Net, init: str) -> Net:
    """The network with PyTorch's initial weights, or scaled to LeCun's variance of one over the fan-in (1998).

    PyTorch's variance is a third of that, so signals become smaller from layer to layer.
    """
    if init == "lecun":
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.data.mul_(math.sqrt(3))
            elif isinstance(layer, nn.MultiheadAttention):
                # One matrix for queries, keys and values; PyTorch uses Glorot's variance, which is half of LeCun's.
                layer.in_proj_weight.data.mul_(math.sqrt(2))
    return network


def count_parameters(network: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def _shared_blocks(in_channels: int, architecture: Architecture) -> tuple[nn.Sequential, int]:
    """The blocks after the fusion, and the channels of the last maps."""
    channels = architecture.intermediate_channels[architecture.fuse_after :]
    blocks = encoder(in_channels, channels, architecture.downsample)
    return blocks, channels[-1] if channels else in_channels
