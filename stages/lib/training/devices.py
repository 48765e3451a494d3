"""Where to compute, and how to make it repeatable there."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from pathlib import Path

import torch

from stages.lib.terminal import UserError

# Parameters of glibc's mallopt (man 3 mallopt).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def choose(name: str) -> torch.device:
    """The device for `train.device`; "auto" takes CUDA when there is one.

    Raises:
        UserError: when CUDA is asked for and not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device is cuda, but PyTorch finds no CUDA device; set it to auto or cpu")
    return torch.device(name)


def prepare_process(threads: int, *, tf32: bool = False) -> None:
    """Fixes everything that could make two runs differ, and keeps memory; call before all computing.

    Args:
        tf32: whether CUDA may round the factors of float32 products to 10 bits, which is faster.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # What torch.use_deterministic_algorithms(True) does, but for telling a compiler, whose import takes a second.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False  # it picks kernels by the clock
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    # Filling every new tensor is for finding reads of unset memory, and takes a fifth of an epoch.
    torch.utils.deterministic.fill_uninitialized_memory = False
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Lets this process reuse large blocks that it frees.

    By default glibc hands them back to the kernel, and each step faults the same pages in anew: 12 to
    25 % of a step's time on two cores. Threads share one arena, since others hand large blocks back all the same.
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
