"""The networks: encoders, a fusion, a head.

B = batch, C = channels, H, W = height and width of the inputs
K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib import fusions
from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.fusions.base import IntermediateFusion, LateFusion, StreamFusion

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
    fuse_after: int = 3  # blocks of either sensor's encoder before the streams meet
    downsample: str = "maxpool"  # or "stride"
    match_parameters: bool = False
    init: str = "pytorch"  # or "lecun"

    def map_side(self, num_blocks: int) -> int:
        """Height and width of the maps after so many blocks."""
        side = self.image_size
        for _ in range(num_blocks):
            side = side // 2 if self.downsample == "maxpool" else -(-side // 2)
        return side


def encoder(in_channels: int, channels: tuple[int, ...], downsample: str) -> nn.Sequential:
    """Blocks of a 3x3 convolution with padding 1, ReLU and 2x2 max pooling; or of one with stride 2, and ReLU.

    Pooling comes before ReLU here: the largest of rectified values is the rectified largest value, bit
    for bit, and ReLU then has a quarter of the work.
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
        self.encoder = encoder(in_channels, channels, architecture.downsample)
        self.head = _head_on(channels[-1], len(channels), architecture)

    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Tensor:
        """This net's logits from its own sensor; the other one's inputs as they are."""
        return self.head(self.encoder(inputs)) if sensor == self.sensor else inputs

    def join(self, rgb: Tensor, lidar: Tensor) -> Float[Tensor, "B K"]:
        return rgb if self.sensor == "rgb" else lidar


class IntermediateNet(FusionNet):
    """An encoder per sensor, a fusion of their maps, what blocks are left, one head.

    No operator ever touches `forward`.
    """

    def __init__(self, fusion: type[IntermediateFusion], architecture: Architecture) -> None:
        super().__init__()
        channels, meeting = architecture.intermediate_channels, architecture.fuse_after
        own = channels[:meeting]
        self.rgb_encoder = encoder(architecture.rgb_channels, own, architecture.downsample)
        self.lidar_encoder = encoder(architecture.lidar_channels, own, architecture.downsample)
        self.fusion = fusion(own[-1])
        self.shared, out_channels = _shared_blocks(self.fusion.out_channels, architecture)
        self.head = _head_on(out_channels, len(channels), architecture)

    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B C h w"]:
        return self.rgb_encoder(inputs) if sensor == "rgb" else self.lidar_encoder(inputs)

    def join(self, rgb: Float[Tensor, "B C h w"], lidar: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K"]:
        return self.head(self.shared(self.fusion(rgb, lidar)))


class StreamNet(FusionNet):
    """As many encoders as the fusion wants streams, which it may change after each block; one head.

    What one sensor's features are depends on the other's, so all is done when they are joined.
    """

    def __init__(self, fusion: type[StreamFusion], architecture: Architecture) -> None:
        super().__init__()
        channels, meeting = architecture.intermediate_channels, architecture.fuse_after
        own = channels[:meeting]
        self.fusion = fusion(architecture.rgb_channels, architecture.lidar_channels, own)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                encoder(in_channels, (out_channels,), architecture.downsample)
                for in_channels, out_channels in itertools.pairwise((first, *own))
            )
            for first in self.fusion.stream_channels
        )
        self.shared, out_channels = _shared_blocks(self.fusion.out_channels, architecture)
        self.head = _head_on(out_channels, len(channels), architecture)

    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B _ H W"]:
        return inputs

    def join(self, rgb: Float[Tensor, "B _ H W"], lidar: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B K"]:
        streams = self.fusion.start(rgb, lidar)
        for number, of_streams in enumerate(zip(*self.blocks, strict=True)):
            streams = [block(maps) for block, maps in zip(of_streams, streams, strict=True)]
            streams = self.fusion.exchange(number, streams)
        return self.head(self.shared(self.fusion.join(streams)))


class LateNet(FusionNet):
    """Two trained unimodal nets and a fusion of their logits: frozen nets, unless the fusion trains them on."""

    def __init__(self, rgb_net: UnimodalNet, lidar_net: UnimodalNet, fusion: LateFusion) -> None:
        super().__init__()
        self.rgb_net = rgb_net.requires_grad_(fusion.trains_nets)
        self.lidar_net = lidar_net.requires_grad_(fusion.trains_nets)
        self.fusion = fusion

    @property
    def trained(self) -> nn.Module:
        """The part whose weights are this model's own, and lie in its files."""
        return self if self.fusion.trains_nets else self.fusion

    def features(self, sensor: str, inputs: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B K"]:
        return (self.rgb_net if sensor == "rgb" else self.lidar_net).features(sensor, inputs)

    def join(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.fusion(rgb, lidar)


def build(name: str, architecture: Architecture) -> UnimodalNet | IntermediateNet | StreamNet | LateNet:
    """The untrained network of this name: a sensor or a file in fusions/.

    Raises:
        ValueError: when there is no network of this name.
    """
    if name in SENSORS:
        return _unimodal(name, architecture)
    sizes = sized(name, architecture)
    fusion = fusions.load(name)
    if issubclass(fusion, IntermediateFusion):
        return _initialized(IntermediateNet(fusion, sizes), sizes.init)
    if issubclass(fusion, StreamFusion):
        return _initialized(StreamNet(fusion, sizes), sizes.init)
    rgb_net, lidar_net = (_unimodal(sensor, architecture) for sensor in SENSORS)
    return LateNet(rgb_net, lidar_net, build_head(name, architecture))


def _unimodal(sensor: str, architecture: Architecture) -> UnimodalNet:
    sizes = sized(sensor, architecture)
    return _initialized(UnimodalNet(sensor, sizes), sizes.init)


def sized(name: str, architecture: Architecture) -> Architecture:
    """The sizes of this network: with `match_parameters`, its first hidden layer is made so wide that every network
    has the same number of parameters.

    The common number is that of two whole encoders and a head on as many channels as one of them has, which is
    addition's; a late fusion carries two unimodal nets, so each of these has half of it.

    Raises:
        UserError: when no width comes within a hundredth of that number.
    """
    if not architecture.match_parameters or (name not in SENSORS and fusions.kind(name) == "late"):
        return architecture
    with torch.device("meta"):
        wanted = _common_parameters(architecture) / (2 if name in SENSORS else 1)
        free = replace(architecture, match_parameters=False)
        one, two = (
            count_parameters(build(name, replace(free, hidden=(width, *architecture.hidden[1:]))))
            for width in (1, 2)
        )
    width = max(1, round(1 + (wanted - one) / (two - one)))
    reached = one + (width - 1) * (two - one)
    if abs(reached - wanted) > wanted / 100:
        raise UserError(
            f"params.yaml: network.match_parameters: {name} comes no closer to {wanted:,.0f} parameters than "
            f"{reached:,}, with {width} units in the head's first layer; widen network.hidden, or switch it off"
        )
    return replace(free, hidden=(width, *architecture.hidden[1:]))


_UNUSED = {  # by kind of network
    "unimodal": ("late_hidden", "fuse_after"),
    "early": ("unimodal_channels", "late_hidden"),
    "intermediate": ("unimodal_channels", "late_hidden"),
    "late": ("fuse_after",),
}


def facts(name: str, architecture: Architecture) -> dict[str, Any]:
    """What of an architecture makes a difference to this network: what its results depend on, and are kept with."""
    unused = _UNUSED["unimodal" if name in SENSORS else fusions.kind(name)]
    return {key: value for key, value in asdict(architecture).items() if key not in unused}


def from_facts(known: dict[str, Any]) -> Architecture:
    """The architecture behind a model's `facts`; what makes no difference to that network is left empty."""
    unused: dict[str, Any] = {"unimodal_channels": (), "intermediate_channels": (), "late_hidden": 0}
    told = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
    return Architecture(**(unused | told))


def _common_parameters(architecture: Architecture) -> int:
    channels = architecture.intermediate_channels
    parts = [
        encoder(in_channels, channels, architecture.downsample)
        for in_channels in (architecture.rgb_channels, architecture.lidar_channels)
    ]
    parts.append(_head_on(channels[-1], len(channels), architecture))
    return sum(count_parameters(part) for part in parts)


def load_late(name: str) -> type[LateFusion]:
    """The class of a late fusion."""
    fusion = fusions.load(name)
    assert issubclass(fusion, LateFusion), f"{name} is no late fusion"
    return fusion


def build_head(name: str, architecture: Architecture) -> LateFusion:
    """The untrained head of a late fusion: all of it that trains."""
    fusion = load_late(name)
    return _initialized(fusion(architecture.num_logits, architecture.late_hidden), architecture.init)


def _initialized(network: Net, init: str) -> Net:
    """PyTorch's uniform initial weights, or those widened to LeCun's variance of one over the fan-in (1998).

    PyTorch's variance is a third of that, so that signals fade from layer to layer.
    """
    if init == "lecun":
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.data.mul_(math.sqrt(3))
            elif isinstance(layer, nn.MultiheadAttention):
                # Glorot's variance of half that, for queries, keys and values in one matrix.
                layer.in_proj_weight.data.mul_(math.sqrt(2))
    return network


def count_parameters(network: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def _shared_blocks(in_channels: int, architecture: Architecture) -> tuple[nn.Sequential, int]:
    """The blocks after the streams have met, and the channels of the last maps."""
    channels = architecture.intermediate_channels[architecture.fuse_after :]
    blocks = encoder(in_channels, channels, architecture.downsample)
    return blocks, channels[-1] if channels else in_channels


def _head_on(channels: int, num_blocks: int, architecture: Architecture) -> nn.Sequential:
    """The head on maps of these channels after so many blocks."""
    cells = architecture.map_side(num_blocks) ** 2
    return head(channels * cells, architecture.hidden, architecture.num_logits)
