"""Training speed on a GPU: models, batch sizes and precisions.

    python benchmarks/gpu.py [--json FILE] [--rounds 4] [--models rgb late ...] [--batches 16 64 256]
                             [--precisions float32 tf32 bfloat16] [--compile] [--tensors FOLDER]

Reads the project's tensor cache. An epoch repeats the samples until it has at least `--least` steps. Trains each
model on the GPU for some epochs; the first one is a warm-up and does not count. Writes for each the samples per
second of an epoch with its validation; the share of the fastest matrix product in the same precision; the GPU's
utilisation, which is the share of the time in which any kernel ran; and the peak memory. Each line is printed
when it is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # so that `python benchmarks/gpu.py` works as well
    sys.path.insert(0, str(ROOT))

from benchmarks import hardware
from stages.lib import fusions, params
from stages.lib.core.names import SENSORS
from stages.lib.models import devices, networks
from stages.lib.models.architecture import Architecture
from stages.lib.models.inference import Inputs
from stages.lib.params import Params
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.split import Split
from stages.lib.training import late, loop
from stages.lib.training.settings import train_config
from stages.lib.training.subsample import Subsample

MODELS = ("rgb", "lidar", "concatenation", "late")
_PEAK_SIDE = 8192
_SAMPLED_EVERY_S = 0.1


@dataclass(frozen=True)
class Measurement:
    """Training of one model in one way."""

    model: str
    batch_size: int
    precision: str  # "float32", "tf32" or "bfloat16"
    compiled: bool
    samples_per_s: float  # median over epochs
    gflops: float | None
    of_peak: float | None
    utilisation: float | None  # %
    memory_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--rounds", type=int, default=4, help="epochs of each kind")
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=[16, 64, 256], metavar="SIZE")
    precisions = ("float32", "tf32", "bfloat16")
    parser.add_argument("--precisions", nargs="+", choices=precisions, default=list(precisions))
    parser.add_argument("--compile", action="store_true", help="also with train.compile: inductor")
    parser.add_argument("--least", type=int, default=40, help="steps of an epoch")
    parser.add_argument(
        "--tensors", type=Path, default=ROOT / manifests.FOLDER, help="folder of the tensor cache"
    )
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--peak-side", type=int, default=_PEAK_SIDE, help=argparse.SUPPRESS)
    given = parser.parse_args()
    settings, device = params.load(ROOT / "params.yaml"), devices.choose(given.device)
    devices.prepare_process(settings.train.threads)
    peaks = {name: peak_gflops(name, given.peak_side, device) for name in given.precisions}
    print(f"Matrix products: {', '.join(f'{peak:,.0f} GFLOP/s in {name}' for name, peak in peaks.items())}.")
    measured = []
    for batch_size in given.batches:
        for name in given.models:
            for precision in given.precisions:
                for compiled in (False, True) if given.compile else (False,):
                    result = measure(
                        name,
                        batch_size,
                        precision,
                        settings,
                        given.tensors,
                        device,
                        peaks,
                        rounds=given.rounds,
                        least=given.least,
                        compiled=compiled,
                    )
                    measured.append(result)
                    print(json.dumps(asdict(result)), file=sys.stderr, flush=True)
                    if given.json:
                        figures = {"peak_gflops": peaks, "rows": [asdict(row) for row in measured]}
                        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(table(measured))


def measure(
    name: str,
    batch_size: int,
    precision: str,
    settings: Params,
    folder: Path,
    device: torch.device,
    peaks: dict[str, float],
    *,
    rounds: int,
    least: int,
    compiled: bool,
) -> Measurement:
    """Trains a model for some epochs."""
    devices.prepare_process(settings.train.threads, tf32=precision == "tf32")
    manifest = manifests.load(folder)
    sizes = Architecture.from_settings(manifest, settings.network)
    train, validation = (Split(folder, manifest, split) for split in ("train", "validation"))
    inputs: tuple[Inputs, Inputs] = (train, validation)
    gflop = None
    if name == "late":
        nets = [networks.build(sensor, sizes) for sensor in SENSORS]
        inputs = (late.cache_logits(*nets, train, device), late.cache_logits(*nets, validation, device))
        network = networks.build_head(name, sizes)
    else:
        network = networks.build(name, sizes)
        gflop = hardware.sample_gflop(network, sizes)
    times = max(1, -(-least * batch_size // len(train)))
    repeated = Subsample(inputs[0], list(range(len(train))) * times)
    if compiled:
        torch.use_deterministic_algorithms(True)  # the compiler too
        network.compile(backend="inductor")
    config = replace(
        train_config(settings.train, fusions.spec(name)),
        epochs=rounds + 1,
        min_steps=0,
        batch_size=batch_size,
        precision="bfloat16" if precision == "bfloat16" else "float32",
    )
    with utilisation(device) as samples:
        state = loop.fit(
            network,
            repeated,
            inputs[1],
            config=config,
            seed=51,
            device=device,
            on_epoch=lambda state: samples.clear() if len(state.history) == 1 else None,
        )
    epoch_s = float(np.median(state.epoch_s[1:]))
    speed = None
    if gflop is not None:
        training, forward = gflop
        speed = (training * len(repeated) + forward * len(validation)) / epoch_s
    return Measurement(
        model=name,
        batch_size=batch_size,
        precision=precision,
        compiled=compiled,
        samples_per_s=len(repeated) / epoch_s,
        gflops=speed,
        of_peak=None if speed is None else speed / peaks[precision],
        utilisation=float(np.mean(samples)) if samples else None,
        memory_mib=state.peak_memory_mib,
    )


def peak_gflops(precision: str, side: int, device: torch.device) -> float:
    """The speed of the best of several products of square matrices of random numbers."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best_s = np.inf
    for _ in range(8):
        synchronize(device)
        started = time.perf_counter()
        torch.matmul(left, right)
        synchronize(device)
        best_s = min(best_s, time.perf_counter() - started)
    return 2 * side**3 / best_s / 1e9


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def utilisation(device: torch.device) -> Iterator[list[float]]:
    """A list that receives the GPU's utilisation in % several times a second; it stays empty without NVML."""
    samples: list[float] = []
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(_SAMPLED_EVERY_S):
            try:
                samples.append(torch.cuda.utilization(device))
            except Exception:  # NVML or its Python package is missing
                return

    thread = threading.Thread(target=sample, daemon=True)
    if device.type == "cuda":
        thread.start()
    try:
        yield samples
    finally:
        stop.set()
        if thread.ident:
            thread.join()


def table(measured: list[Measurement]) -> str:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    rows = [
        [
            row.model,
            row.batch_size,
            row.precision + (", compiled" if row.compiled else ""),
            f"{row.samples_per_s:,.0f}",
            shown(row.gflops, ",.0f"),
            shown(row.of_peak, ".1%"),
            shown(row.utilisation, ".0f"),
            f"{row.memory_mib:,.0f}",
        ]
        for row in measured
    ]
    headers = [
        "Model",
        "Batch",
        "Precision",
        "Samples/s",
        "GFLOP/s",
        "Of the peak",
        "Utilisation (%)",
        "Peak memory (MiB)",
    ]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
