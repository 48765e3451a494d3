"""The cost of a model: parameters, size of the weights, operations, latency."""

from __future__ import annotations

import inspect
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from stages.lib.evaluation.results import Cost
from stages.lib.models import devices, networks
from stages.lib.models.architecture import Architecture
from stages.lib.models.networks import FusionNet

_WARM_UP = 3
_REPETITIONS = 50
# A slow network is timed less often: for long passes, few of them give a stable median.
_FEWEST, _ENOUGH_S = 7, 1.0

# The counter's hook imports torch.compile's front end, more than a second in every process, only to exclude itself
# from compiling. With this attribute set, it takes that as done.
_hook = inspect.unwrap(flop_counter._FlopCounterMode.__torch_dispatch__)
_hook.__dynamo_disable = _hook


def count(network: FusionNet, sizes: Architecture) -> Cost:
    """The costs that do not depend on the machine; of a late fusion, its two networks included.

    Trainable parameters are those that this model's own training changes: over frozen networks, the head's.
    """
    num_bytes = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    # With gradients, and attention as plain products: the counter does not know fused kernels.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        network(*_sample(sizes, torch.device("cpu")))
    return Cost(
        parameters=networks.count_parameters(network),
        trainable_parameters=networks.count_parameters(network.own_weights),
        weights_mib=num_bytes / 2**20,
        flops_m=counter.get_total_flops() / 1e6,
        head_width=network.head_width,
    )


@torch.no_grad()
def latency(network: nn.Module, sizes: Architecture, device: torch.device, *, threads: int) -> dict[str, Any]:
    """Median time of one forward pass in milliseconds, of one sample and of 32, after a warm-up."""
    torch.set_num_threads(threads)
    devices.place(network, device)
    return {
        "latency_ms": _latency_ms(network, sizes, device, 1),
        "latency_32_ms": _latency_ms(network, sizes, device, 32),
        "device": device.type,
        "threads": threads,
    }


def _latency_ms(network: nn.Module, sizes: Architecture, device: torch.device, batch_size: int) -> float:
    inputs = [
        tensor.expand(batch_size, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        for tensor in _sample(sizes, device)
    ]
    for _ in range(_WARM_UP):
        _pass_ms(network, inputs, device)
    times_ms: list[float] = []
    while len(times_ms) < _FEWEST or (len(times_ms) < _REPETITIONS and sum(times_ms) < _ENOUGH_S * 1000):
        times_ms.append(_pass_ms(network, inputs, device))
    return statistics.median(times_ms)


def _pass_ms(network: nn.Module, inputs: list[Tensor], device: torch.device) -> float:
    started = time.perf_counter()
    network(*inputs)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) * 1000


def _sample(sizes: Architecture, device: torch.device) -> tuple[Tensor, Tensor]:
    shape = (sizes.image_size, sizes.image_size)
    return (
        torch.zeros(1, sizes.rgb_channels, *shape, device=device),
        torch.zeros(1, sizes.lidar_channels, *shape, device=device),
    )
