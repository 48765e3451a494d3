"""Late fusion whose nets go on learning."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.lib.fusions.base import LateFusion


class LateFinetuned(LateFusion):
    """The notebook's perceptron over both nets' logits, with the nets unfrozen: all of it trains on.

    It starts from the trained nets and follows the recipe of whole networks (`train.epochs`,
    `train.learning_rate`), not that of heads.

    Strength: each net can specialise in what the other one misses.
    Limitation: costs as much as both nets' training, once more; the sensors' nets are no longer those that were
    tested alone.
    Parameters: 3*h*K**2 + h*K + K
    Source: the course notebook's head; fine-tuning is common practice.
    """

    trains_nets = True

    def __init__(self, num_logits: int, hidden: int) -> None:
        super().__init__(num_logits, hidden)
        self.perceptron = nn.Sequential(
            nn.Linear(2 * num_logits, hidden * num_logits),
            nn.ReLU(),
            nn.Linear(hidden * num_logits, num_logits),
        )

    def forward(self, rgb: Float[Tensor, "B K"], lidar: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.perceptron(torch.cat([rgb, lidar], dim=1))
