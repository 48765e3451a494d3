"""Base classes of the fusions.

Every fusion's docstring says what it computes, its `Formula` with shapes (of one sample), its `Strength`, its
`Limitation`, the number of its own `Parameters` as a Python expression, and its `Source`. Tests evaluate the
expression, and `python -m scripts.fusion_docs` writes docs/fusions.md from the docstrings.
Names in the expression: C, channels of one sensor's maps where they are fused; blocks, the channels
after each block up to there; K, logits; h, `network.late_hidden`.

B = batch, C = channels of one sensor's feature maps, H, W = their height and width
F = channels after fusion, K = logits (1 for two classes, else one per class)
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


class IntermediateFusion(nn.Module, ABC):
    """Fuses the feature maps of two encoders into `out_channels` channels."""

    out_channels: int
    is_symmetric = False  # whether exchanging the sensors leaves the result unchanged

    def __init__(self, channels: int) -> None:
        """`channels`: C, of each sensor's maps; also of the fused maps, unless a subclass sets `out_channels`."""
        super().__init__()
        self.out_channels = channels

    @abstractmethod
    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B F H W"]: ...


class StreamFusion(nn.Module, ABC):
    """Acts before or between the encoders' blocks: forms the streams of maps that the blocks see.

    Each stream has its own blocks. The network calls `start`, then `exchange` after each block, then `join`.
    """

    stream_channels: tuple[int, ...]  # channels of each stream before its first block
    out_channels: int

    def __init__(self, rgb_channels: int, lidar_channels: int, block_channels: tuple[int, ...]) -> None:
        """Channels of the inputs, and of every stream's maps after each block; a subclass sets the attributes."""
        super().__init__()

    @abstractmethod
    def start(self, rgb: Float[Tensor, "B _ H W"], lidar: Float[Tensor, "B _ H W"]) -> list[Tensor]:
        """Forms the streams from both sensors' inputs."""

    @abstractmethod
    def exchange(self, block: int, streams: list[Tensor]) -> list[Tensor]:
        """Turns the streams after a block, counted from 0, into the inputs of the next block."""

    @abstractmethod
    def join(self, streams: list[Tensor]) -> Float[Tensor, "B F H W"]:
        """Fuses the streams into maps of `out_channels` channels."""


class EarlyFusion(StreamFusion):
    """A stream fusion that fuses the sensors before the first block."""


class LateFusion(nn.Module, ABC):
    """Fuses the logits of two trained unimodal networks."""

    is_symmetric = False
    trains_nets = False  # whether the unimodal networks train together with the head, or are frozen

    def __init__(self, num_logits: int, hidden: int) -> None:
        """`num_logits`: K of each network; `hidden`: width of a hidden layer per logit."""
        super().__init__()

    @abstractmethod
    def forward(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]: ...


class PerceptronFusion(LateFusion):
    """The notebook's head: 2K to hK to K units with ReLU between (2-10-1 for two classes, h = 10)."""

    def __init__(self, num_logits: int, hidden: int) -> None:
        super().__init__(num_logits, hidden)
        self.perceptron = nn.Sequential(
            nn.Linear(2 * num_logits, hidden * num_logits),
            nn.ReLU(),
            nn.Linear(hidden * num_logits, num_logits),
        )

    def forward(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.perceptron(torch.cat([rgb, lidar], dim=1))
