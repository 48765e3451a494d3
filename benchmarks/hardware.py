"""What the benchmarks measure and set on the machine itself, and the operations that they count."""

from __future__ import annotations

import ctypes
import timeit
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stages.lib.models.architecture import Architecture

_LEAST_SIDE, _MOST_SIDE = 256, 4096  # of the matrices whose product gives the peak speed
_LONG_ENOUGH_S = 0.05
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt (man 3 mallopt)


def peak_gflops(precision: str, threads: int) -> float:
    """The speed of the best of several matrix products, of a size that takes a measurable time.

    The size starts small, since processors without bfloat16 instructions need minutes for the largest product.
    """
    torch.set_num_threads(threads)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    side, best_s = _LEAST_SIDE // 2, 0.0
    while side < _MOST_SIDE and best_s < _LONG_ENOUGH_S:
        side *= 2
        left, right = (torch.randn(side, side).to(dtype) for _ in range(2))
        best_s = min(timeit.repeat(partial(torch.matmul, left, right), number=1, repeat=4))
    return 2 * side**3 / best_s / 1e9


def sample_gflop(network: nn.Module, sizes: Architecture) -> tuple[float, float]:
    """10^9 multiplications and additions for a sample: of a training step, and of its forward pass alone."""
    side = sizes.image_size
    inputs = [torch.zeros(1, channels, side, side) for channels in (sizes.rgb_channels, sizes.lidar_channels)]
    with FlopCounterMode(display=False) as counter:
        loss = network(*inputs).sum()
        forward = counter.get_total_flops()
        loss.backward()
    return counter.get_total_flops() / 1e9, forward / 1e9


def restore_default_allocation() -> None:
    """Undoes `devices.prepare_process`: sets the thresholds at which glibc arrives by itself."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)
