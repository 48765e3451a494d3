"""Late fusion by a small perceptron over two frozen nets."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import LateFusion


class Late(LateFusion):
    """A perceptron over both nets' logits: 2K to 10K to K with ReLU between (2-10-1 for two classes).

    Strength: sensors are trained, replaced and repaired apart; the fusion itself trains in seconds.
    Limitation: it sees two opinions, not two views; features that only mean something together are
    gone. Both nets' parameters have to be carried.
    Parameters: 3*h*K**2 + h*K + K
    Source: the course notebook.
    """

    def __init__(self, num_logits: int, hidden: int) -> None:
        super().__init__(num_logits, hidden)
        self.perceptron = nn.Sequential(
            nn.Linear(2 * num_logits, hidden * num_logits),
            nn.ReLU(),
            nn.Linear(hidden * num_logits, num_logits),
        )

    def forward(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.perceptron(torch.cat([rgb, lidar], dim=1))
