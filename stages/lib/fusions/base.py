"""What a fusion operator promises.

B = batch, C = channels of one sensor's feature maps, H, W = their height and width
F = channels after fusion, K = logits (1 for two classes, else one per class)
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class IntermediateFusion(nn.Module, ABC):
    """Joins the feature maps of two encoders; the head that follows sees `out_channels` channels."""

    out_channels: int

    def __init__(self, channels: int) -> None:
        """`channels`: C, the channels of either sensor's maps. A subclass sets `out_channels`."""
        super().__init__()

    @abstractmethod
    def forward(
        self, rgb: Float[Tensor, "B C H W"], lidar: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B F H W"]: ...


class LateFusion(nn.Module, ABC):
    """Joins the logits of two trained, frozen unimodal nets into the logits of the pair."""

    def __init__(self, num_logits: int, hidden: int) -> None:
        """`num_logits`: K of each net; `hidden`: width of a hidden layer per logit."""
        super().__init__()

    @abstractmethod
    def forward(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]: ...
