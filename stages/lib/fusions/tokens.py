"""Converts feature maps to sequences of tokens and back, for the attention operators.

B = batch, C = channels, H, W = height and width, T = tokens
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def to_tokens(maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B H*W C"]:
    """One token for each place, row by row, with the encoding of its position added."""
    channels, height, width = maps.shape[1:]
    encoding = positions(channels, height, width, maps.device)
    # For maps in channels-last layout, which training uses, this copies nothing.
    return maps.permute(0, 2, 3, 1).flatten(1, 2) + encoding.to(maps.dtype)


def to_maps(tokens: Float[Tensor, "B T C"], height: int, width: int) -> Float[Tensor, "B C H W"]:
    """Feature maps of this height and width from their tokens, without removing the positions."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def positions(channels: int, height: int, width: int, device: torch.device) -> Float[Tensor, "places C"]:
    """Sines and cosines of the row in the first half of the channels, and of the column in the second half.

    This is the two-dimensional form of Vaswani et al. 2017 (arXiv 1706.03762), section 3.5.
    """
    rows = _waves(height, channels // 2, device)[:, None].expand(-1, width, -1)
    columns = _waves(width, channels - channels // 2, device)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def _waves(length: int, channels: int, device: torch.device) -> Float[Tensor, "length channels"]:
    """Sines, then cosines, of positions at wavelengths from 2 pi to 10,000 times that."""
    num_sines = (channels + 1) // 2
    steps = torch.arange(num_sines, device=device)
    frequencies = torch.exp(steps * (-math.log(10_000) / max(num_sines, 1)))
    angles = torch.arange(length, device=device)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :channels]


def heads(channels: int) -> int:
    """Number of attention heads: two, or one if the number of channels is odd."""
    return 2 if channels % 2 == 0 else 1
