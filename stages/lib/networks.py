"""The networks: encoders, a fusion, a head.

B = batch, C = channels, H, W = height and width of the inputs
K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from stages.lib import fusions
from stages.lib.fusions.base import IntermediateFusion, LateFusion
from stages.lib.params import SENSORS

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Architecture:
    """All that a network is built from: sizes of the data, sizes and initial weights of params.yaml."""

    rgb_channels: int
    lidar_channels: int
    image_size: int
    num_logits: int
    unimodal_channels: tuple[int, ...]
    intermediate_channels: tuple[int, ...]
    hidden: tuple[int, ...]
    late_hidden: int
    init: str = "pytorch"  # or "lecun"


def encoder(in_channels: int, channels: tuple[int, ...]) -> nn.Sequential:
    """3x3 convolutions with padding 1, each followed by ReLU and 2x2 max pooling.

    Pooling comes before ReLU here: the largest of rectified values is the rectified largest value, bit
    for bit, and ReLU then has a quarter of the work.
    """
    layers: list[nn.Module] = []
    for out_channels in channels:
        layers += [nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        in_channels = out_channels
    return nn.Sequential(*layers)


def head(in_features: int, hidden: tuple[int, ...], num_logits: int) -> nn.Sequential:
    """Flattens the maps; fully connected layers with ReLU between."""
    layers: list[nn.Module] = [nn.Flatten()]
    for out_features in hidden:
        layers += [nn.Linear(in_features, out_features), nn.ReLU()]
        in_features = out_features
    return nn.Sequential(*layers, nn.Linear(in_features, num_logits))


class FusionNet(nn.Module, ABC):
    """A net of two steps: `features` sees one sensor alone, `join` what became of both.

    So the features of one sensor are computed once, however many states of the other it is paired with.
    """

    @abstractmethod
    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Tensor: ...

    @abstractmethod
    def join(self, rgb: Tensor, lidar: Tensor) -> Float[Tensor, "B K"]: ...

    def forward(self, rgb: Float[Tensor, "B _ H W"], lidar: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B K"]:
        return self.join(self.features("rgb", rgb), self.features("lidar", lidar))


class UnimodalNet(FusionNet):
    """One sensor's encoder and head. It is handed both sensors, like every net, and uses its own."""

    def __init__(self, sensor: str, architecture: Architecture) -> None:
        super().__init__()
        self.sensor = sensor
        in_channels = {"rgb": architecture.rgb_channels, "lidar": architecture.lidar_channels}[sensor]
        channels = architecture.unimodal_channels
        self.encoder = encoder(in_channels, channels)
        self.head = head(
            channels[-1] * _map_cells(architecture, channels),
            architecture.hidden,
            architecture.num_logits,
        )

    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Tensor:
        """This net's logits from its own sensor; the other one's inputs as they are."""
        return self.head(self.encoder(inputs)) if sensor == self.sensor else inputs

    def join(self, rgb: Tensor, lidar: Tensor) -> Float[Tensor, "B K"]:
        return rgb if self.sensor == "rgb" else lidar


class IntermediateNet(FusionNet):
    """An encoder per sensor, a fusion of their maps, one head. No operator ever touches `forward`."""

    def __init__(self, fusion: type[IntermediateFusion], architecture: Architecture) -> None:
        super().__init__()
        channels = architecture.intermediate_channels
        self.rgb_encoder = encoder(architecture.rgb_channels, channels)
        self.lidar_encoder = encoder(architecture.lidar_channels, channels)
        self.fusion = fusion(channels[-1])
        self.head = head(
            self.fusion.out_channels * _map_cells(architecture, channels),
            architecture.hidden,
            architecture.num_logits,
        )

    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B C h w"]:
        return self.rgb_encoder(inputs) if sensor == "rgb" else self.lidar_encoder(inputs)

    def join(self, rgb: Float[Tensor, "B C h w"], lidar: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K"]:
        return self.head(self.fusion(rgb, lidar))


class LateNet(FusionNet):
    """Two trained, frozen unimodal nets and a fusion of their logits, the only part that trains."""

    def __init__(self, rgb_net: UnimodalNet, lidar_net: UnimodalNet, fusion: LateFusion) -> None:
        super().__init__()
        self.rgb_net = rgb_net.requires_grad_(False)
        self.lidar_net = lidar_net.requires_grad_(False)
        self.fusion = fusion

    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B K"]:
        return (self.rgb_net if sensor == "rgb" else self.lidar_net).features(sensor, inputs)

    def join(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.fusion(rgb, lidar)


def build(name: str, architecture: Architecture) -> UnimodalNet | IntermediateNet | LateNet:
    """The untrained network of this name: a sensor or a file in fusions/.

    Raises:
        ValueError: when there is no network of this name.
    """
    if name in SENSORS:
        return _initialized(UnimodalNet(name, architecture), architecture.init)
    fusion = fusions.load(name)
    if issubclass(fusion, IntermediateFusion):
        return _initialized(IntermediateNet(fusion, architecture), architecture.init)
    nets = [_initialized(UnimodalNet(sensor, architecture), architecture.init) for sensor in SENSORS]
    return LateNet(*nets, build_head(name, architecture))


def build_head(name: str, architecture: Architecture) -> LateFusion:
    """The untrained head of a late fusion: all of it that trains."""
    fusion = fusions.load(name)
    assert issubclass(fusion, LateFusion), f"{name} is no late fusion"
    return _initialized(fusion(architecture.num_logits, architecture.late_hidden), architecture.init)


def _initialized(network: Net, init: str) -> Net:
    """PyTorch's uniform initial weights, or those widened to LeCun's variance of one over the fan-in (1998).

    PyTorch's variance is a third of that, so that signals fade from layer to layer.
    """
    if init == "lecun":
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.data.mul_(math.sqrt(3))
    return network


def count_parameters(network: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def _map_cells(architecture: Architecture, channels: tuple[int, ...]) -> int:
    """Cells of the encoder's last maps: each of its poolings halves both sides."""
    return (architecture.image_size // 2 ** len(channels)) ** 2
