"""The cost of a model: parameters, size of the weights, operations, latency."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from stages.lib.evaluation.results import Cost
from stages.lib.models import devices, networks
from stages.lib.models.architecture import Architecture
from stages.lib.models.networks import FusionNet

if TYPE_CHECKING:
    from torch.utils.benchmark import Measurement

_WARM_UP = 3  # passes that are not counted
_MEASURED_S = 0.5  # of passes that are

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
    """Time of one forward pass in milliseconds, of one sample and of 32: median and 95th percentile.

    Measured by `torch.utils.benchmark`, which waits for the GPU. A measurement is one pass; of passes shorter than a
    millisecond, the mean of several.
    """
    devices.place(network, device)
    single, many = (_measure(network, sizes, device, batch_size, threads) for batch_size in (1, 32))
    return {
        "latency_ms": single.median * 1000,
        "latency_p95_ms": _percentile_95(single) * 1000,
        "latency_32_ms": many.median * 1000,
        "latency_32_p95_ms": _percentile_95(many) * 1000,
        "device": device.type,
        "threads": threads,
    }


def _measure(
    network: nn.Module, sizes: Architecture, device: torch.device, batch_size: int, threads: int
) -> Measurement:
    from torch.utils.benchmark import Timer  # imports setuptools, half a second

    inputs = [
        tensor.expand(batch_size, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        for tensor in _sample(sizes, device)
    ]
    timer = Timer("network(*inputs)", globals={"network": network, "inputs": inputs}, num_threads=threads)
    timer.timeit(_WARM_UP)
    return timer.blocked_autorange(min_run_time=_MEASURED_S)


def _percentile_95(measurement: Measurement) -> float:
    """In seconds for one pass."""
    return float(np.percentile(measurement.times, 95))


def _sample(sizes: Architecture, device: torch.device) -> tuple[Tensor, Tensor]:
    shape = (sizes.image_size, sizes.image_size)
    return (
        torch.zeros(1, sizes.rgb_channels, *shape, device=device),
        torch.zeros(1, sizes.lidar_channels, *shape, device=device),
    )
