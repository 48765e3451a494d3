"""The device to compute on, and settings that make its results repeatable."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import timeit
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from stages.lib.core import console
from stages.lib.core.errors import UserError

Net = TypeVar("Net", bound=nn.Module)

# Parameters of glibc's mallopt (man 3 mallopt).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def choose(name: str) -> torch.device:
    """The device for `train.device`; "auto" takes CUDA when there is one.

    Raises:
        UserError: when CUDA is asked for and not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device is cuda, but PyTorch finds no CUDA device; set it to auto or cpu")
    return torch.device(name)


def warn_if_slow(precision: str, device: torch.device) -> None:
    """Warns in one line if this processor is slower in bfloat16 than in float32."""
    if precision == "bfloat16" and device.type == "cpu":
        ratio = bfloat16_ratio()
        if ratio > 1:
            console.report_line(
                f"warning: train.precision is bfloat16: on this processor a small network took {ratio:.1f} times "
                "as long in bfloat16 as in float32; train.precision: float32 is faster here"
            )


def bfloat16_ratio() -> float:
    """Time of a training step of a small network in bfloat16, divided by the time in float32, on this processor.

    Takes less than a second. Measured, since it differs by a factor of up to a hundred between processors and
    kernels without instructions for bfloat16.
    """
    layers = (nn.Conv2d(25, 50, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(3200, 100))
    network = place(nn.Sequential(*layers), torch.device("cpu"))
    inputs = torch.rand(4, 25, 32, 32).to(memory_format=torch.channels_last)

    def step(is_rounded: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=is_rounded):
            output = network(inputs)
        output.float().sum().backward()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # independent of the load of other cores
    rounded_s, exact_s = (
        min(timeit.repeat(partial(step, is_rounded), number=1, repeat=4)) for is_rounded in (True, False)
    )
    torch.set_num_threads(threads)
    return rounded_s / exact_s


def place(network: Net, device: torch.device) -> Net:
    """Moves a network to a device, with its weights in channels-last layout like its inputs."""
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # no overload has it


def prepare_process(threads: int, *, tf32: bool = False) -> None:
    """Switches off everything that makes two runs differ, and keeps freed memory; call before all computing.

    Args:
        tf32: whether CUDA may round the factors of float32 products to 10 bits, which is faster.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # Like torch.use_deterministic_algorithms(True), but without its import of the compiler, which takes a second.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False  # it chooses kernels by measured times
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    # Filling every new tensor helps to find reads of uninitialized memory, and takes a fifth of an epoch.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch's stubs lack it
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Lets this process reuse large blocks of memory that it has freed.

    By default glibc returns them to the kernel, and each step causes page faults on the same pages again: 12 to
    25 % of a step's time on two cores. Threads share one arena, since other arenas still return large blocks.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_ARENA_MAX, 1)


def reset_peak_memory(device: torch.device) -> None:
    """Lets `peak_memory_mib` count from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access("/proc/self/clear_refs", os.W_OK):
        # Linux: 5 resets the peak resident size of this process (man 5 proc).
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib(device: torch.device) -> float:
    """Peak since the reset: allocated on the GPU, or resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
