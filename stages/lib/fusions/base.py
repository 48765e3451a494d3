"""What a fusion operator promises.

Every operator's docstring says what it computes, its `Formula` with shapes (of one sample), its `Strength`, its
`Limitation`, the number of its own `Parameters` as a Python expression, and its `Source`; tests evaluate the
expression, and docs/fusions.md is made from all of it.
Names in the expression: C, channels of one sensor's maps where they meet; blocks, the channels
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
    """Joins the feature maps of two encoders; what follows sees `out_channels` channels."""

    out_channels: int
    is_symmetric = False  # whether exchanging the sensors changes nothing

    def __init__(self, channels: int) -> None:
        """`channels`: C, of either sensor's maps, and of the fused ones unless a subclass sets `out_channels`."""
        super().__init__()
        self.out_channels = channels

    @abstractmethod
    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B F H W"]: ...


class StreamFusion(nn.Module, ABC):
    """Acts before or between the encoders' blocks: decides which streams of maps the blocks see.

    Each stream has blocks of its own. The net calls `start`, after each block `exchange`, and at last `join`.
    """

    stream_channels: tuple[int, ...]  # channels of each stream before its first block
    out_channels: int

    def __init__(self, rgb_channels: int, lidar_channels: int, block_channels: tuple[int, ...]) -> None:
        """Channels of the inputs, and of every stream's maps after each block. A subclass sets the rest."""
        super().__init__()

    @abstractmethod
    def start(self, rgb: Float[Tensor, "B _ H W"], lidar: Float[Tensor, "B _ H W"]) -> list[Tensor]:
        """The streams, from both sensors' inputs."""

    @abstractmethod
    def exchange(self, block: int, streams: list[Tensor]) -> list[Tensor]:
        """The streams after a block, counted from 0, as the next one sees them."""

    @abstractmethod
    def join(self, streams: list[Tensor]) -> Float[Tensor, "B F H W"]:
        """One map of `out_channels` channels."""


class EarlyFusion(StreamFusion):
    """A stream fusion in which the sensors meet before the first block."""


class LateFusion(nn.Module, ABC):
    """Joins the logits of two trained unimodal nets into the logits of the pair."""

    is_symmetric = False
    trains_nets = False  # whether the nets go on learning with the head, instead of being frozen

    def __init__(self, num_logits: int, hidden: int) -> None:
        """`num_logits`: K of each net; `hidden`: width of a hidden layer per logit."""
        super().__init__()

    @abstractmethod
    def forward(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]: ...


class PerceptronFusion(LateFusion):
    """The notebook's head: 2K to hK to K with ReLU between (2-10-1 for two classes, h = 10)."""

    def __init__(self, num_logits: int, hidden: int) -> None:
        super().__init__(num_logits, hidden)
        self.perceptron = nn.Sequential(
            nn.Linear(2 * num_logits, hidden * num_logits),
            nn.ReLU(),
            nn.Linear(hidden * num_logits, num_logits),
        )

    def forward(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.perceptron(torch.cat([rgb, lidar], dim=1))
