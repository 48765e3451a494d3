"""Forward passes over a whole split.

B = batch;  N = samples;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@runtime_checkable
class Inputs(Protocol):
    """The samples of a split as a network sees them: two inputs and a label per sample."""

    labels: Int[Tensor, "N"]

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Inputs: ...

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]: ...

    def absent(self) -> tuple[Tensor, Tensor]:
        """What a network sees of each sensor where it is missing, in a shape that broadcasts over a batch."""
        ...


@torch.no_grad()
def predict(
    network: nn.Module, inputs: Inputs, batch_size: int, device: torch.device, precision: str = "float32"
) -> Float[Tensor, "N K"]:
    """Logits of every sample, in order, on the CPU."""
    network.eval()
    inputs = inputs.to(device)
    batches = [
        forward(network, *inputs.batch(range(start, min(start + batch_size, len(inputs)))), device, precision)
        for start in range(0, len(inputs), batch_size)
    ]
    return torch.cat(batches).float().cpu()


def forward(
    network: nn.Module, rgb: Tensor, lidar: Tensor, device: torch.device, precision: str
) -> Float[Tensor, "B K"]:
    # Convolutions run faster on maps in channels-last layout.
    layout = torch.channels_last if rgb.ndim == 4 else torch.preserve_format
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return network(rgb.to(memory_format=layout), lidar.to(memory_format=layout))
