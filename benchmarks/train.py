"""How fast training is, beside the notebook's way of doing it.

    python benchmarks/train.py [--json FILE] [--rounds 3] [--threads 2] [--models rgb late ...] [--fusions film ...]

Writes a dataset of the notebook's size (897 groups to train on, 179 to validate) into a temporary folder.
Then, in turn and in one process, each model is trained for an epoch by the yardstick (benchmarks/notebook.py),
by the engine in float32 and by the engine in bfloat16; the first round warms up and does not count. The
yardstick decodes PNGs, the engine reads the cache of the same dataset; both validate. Speeds are set against
the greatest matrix product that PyTorch manages with as many threads. Then the engine trains every fusion of the
folder that is one network for an epoch, in turn, beside addition, or beside concatenation if it hands on as much.
Takes about fifteen minutes.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # so that `python benchmarks/train.py` works as well
    sys.path.insert(0, str(ROOT))

from benchmarks import export as export_benchmark
from benchmarks import notebook
from benchmarks.recipe import notebook_settings
from stages import export
from stages import train as train_stage
from stages.lib import fusions, params
from stages.lib.models import checkpoints, devices, networks
from stages.lib.models.inference import Inputs
from stages.lib.params import Params
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest
from stages.lib.training import late, loop, parallel
from stages.lib.training.resume import Scratch
from stages.lib.training.seed import train_seed
from stages.lib.training.settings import TrainConfig, compute_config, train_config

GROUPS = {"train": 897, "validation": 179}
_CPU = torch.device("cpu")
_PRECISIONS = ("float32", "bfloat16")
_LEAST_SIDE, _MOST_SIDE = 256, 4096  # of the matrices whose product shows what the machine can do
_LONG_ENOUGH_S = 0.05
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt (man 3 mallopt)


@dataclass(frozen=True)
class Measurement:
    """One epoch."""

    seconds: float
    memory_mib: float


@dataclass(frozen=True)
class Data:
    """The same groups as the yardstick reads them and as the engine does."""

    folder: Path
    manifest: Manifest
    plain: tuple[notebook.Samples, notebook.Samples]
    cached: tuple[Inputs, Inputs]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each kind")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--models", nargs="+", choices=notebook.MODELS, default=list(notebook.MODELS))
    joint = fusions.names(*fusions.JOINT)
    parser.add_argument("--fusions", nargs="*", choices=joint, default=joint, metavar="NAME")
    parser.add_argument("--groups", type=int, nargs=2, default=list(GROUPS.values()), help=argparse.SUPPRESS)
    given = parser.parse_args()
    settings = params.load(ROOT / "params.yaml")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        data = prepare(Path(folder), dict(zip(GROUPS, given.groups, strict=True)), settings)
        peaks = {precision: peak_gflops(precision, given.threads) for precision in _PRECISIONS}
        measured = {name: measure(name, data, given.rounds, given.threads, settings) for name in given.models}
        work = {name: epoch_gflop(name, data, settings) for name in given.models}
        operators = compare_fusions(given.fusions, data, given.rounds, given.threads, settings)
        speedup = seeds_parallel(data, Path(folder), settings)
    print(table(measured, work, peaks))
    print(f"\n{fusion_table(operators)}")
    print(
        f"\nMatrix products: {', '.join(f'{peak:,.0f} GFLOP/s in {name}' for name, peak in peaks.items())}."
    )
    print(f"Four seeds, two workers of one thread: {speedup:.2f} times the speed of one such worker.")
    if given.json:
        figures = {
            "models": {
                name: {f"{kind}_s": median(rows) for kind, rows in kinds.items()}
                for name, kinds in measured.items()
            },
            "fusions": {
                name: {"float32_s": operator.seconds, "beside": operator.beside, "ratio": operator.ratio}
                for name, operator in operators.items()
            },
            "peak_gflops": peaks,
            "seeds_parallel": speedup,
        }
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def prepare(folder: Path, counts: dict[str, int], settings: Params) -> Data:
    """Writes and exports the dataset, and opens it both ways."""
    dataset = folder / "dataset"
    splits = [split for split, count in counts.items() for _ in range(count)]
    export_benchmark.write_dataset(dataset, splits, export_benchmark.render(settings), settings)
    manifests.FOLDER = folder / "tensors"
    manifest = export.export(replace(settings.dataset, path=str(dataset)), settings.export)
    return Data(
        folder=manifests.FOLDER,
        manifest=manifest,
        plain=(notebook.load(dataset, "train"), notebook.load(dataset, "validation")),
        cached=train_stage.load_splits(manifests.FOLDER, manifest),
    )


def measure(
    name: str, data: Data, rounds: int, threads: int, settings: Params
) -> dict[str, list[Measurement]]:
    """Epochs of one model: the yardstick's and the engine's in turn."""
    kinds: dict[str, Callable[[], Measurement]] = {"notebook": partial(time_notebook, name, data, threads)}
    for precision in _PRECISIONS:
        kinds[precision] = partial(time_engine, name, data, precision, threads, settings)
    measured: dict[str, list[Measurement]] = {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        for kind, run in kinds.items():
            result = run()
            print(f"{name}, {kind}: {result.seconds:.3f} s", file=sys.stderr, flush=True)
            if number:
                measured[kind].append(result)
    return measured


def time_notebook(name: str, data: Data, threads: int) -> Measurement:
    _allocate_as_usual()
    notebook.settle(threads)
    notebook.set_seeds(51)
    nets = {sensor: notebook.build(sensor, {}) for sensor in ("rgb", "lidar")} if name == "late" else {}
    net = notebook.build(name, nets)
    devices.reset_peak_memory(_CPU)
    result = notebook.train_model(net, *data.plain, epochs=1)
    return Measurement(result.epoch_s[0], devices.peak_memory_mib(_CPU))


def time_engine(name: str, data: Data, precision: str, threads: int, settings: Params) -> Measurement:
    devices.prepare_process(threads)
    recipe = one_epoch(precision)
    sizes = checkpoints.architecture(data.manifest, settings.network)
    inputs = data.cached
    if name == "late":
        nets = [
            networks.build(sensor, sizes).to(memory_format=torch.channels_last) for sensor in ("rgb", "lidar")
        ]
        inputs = tuple(late.cache_logits(*nets, split, _CPU) for split in data.cached)
        network = networks.build_head(name, sizes)
    else:
        network = networks.build(name, sizes)
    devices.reset_peak_memory(_CPU)
    run = loop.fit(network, *inputs, recipe=recipe, seed=51, device=_CPU, on_epoch=lambda run: None)
    return Measurement(run.epoch_s[0], devices.peak_memory_mib(_CPU))


@dataclass(frozen=True)
class Operator:
    """An epoch of a fusion in float32, beside that of another which hands on as many features."""

    seconds: float  # median
    beside: str  # "addition" or "concatenation"
    ratio: float  # median over the rounds


def compare_fusions(
    names: list[str], data: Data, rounds: int, threads: int, settings: Params
) -> dict[str, Operator]:
    """Epochs of these fusions and of the two that they are compared with, in turn."""
    every = list(dict.fromkeys(["addition", "concatenation", *names])) if names else []
    seconds: dict[str, list[float]] = {name: [] for name in every}
    for number in range(rounds + 1):
        for name in every:
            result = time_engine(name, data, "float32", threads, settings)
            print(f"{name}: {result.seconds:.3f} s", file=sys.stderr, flush=True)
            if number:
                seconds[name].append(result.seconds)
    sizes = checkpoints.architecture(data.manifest, settings.network)
    doubled = networks.build("concatenation", sizes).fusion.out_channels
    operators = {}
    for name in names:
        handed_on = networks.build(name, sizes).fusion.out_channels
        beside = "concatenation" if handed_on == doubled else "addition"
        ratios = np.array(seconds[name]) / np.array(seconds[beside])
        operators[name] = Operator(float(np.median(seconds[name])), beside, float(np.median(ratios)))
    return operators


def fusion_table(operators: dict[str, Operator]) -> str:
    rows = [
        [name, f"{operator.seconds:.2f}", operator.beside, f"{operator.ratio:.2f}"]
        for name, operator in operators.items()
    ]
    return tabulate(rows, ["Fusion", "Epoch (s)", "Beside", "Ratio"], "github", disable_numparse=True)


def one_epoch(precision: str) -> TrainConfig:
    """Of the notebook's training."""
    settings = notebook_settings("train.epochs=1", f"train.precision={precision}")
    return train_config(settings.train)


def seeds_parallel(data: Data, folder: Path, settings: Params) -> float:
    """Samples per second of two one-thread workers, start-up aside, over those of one."""
    sizes = checkpoints.architecture(data.manifest, settings.network)
    epoch_s = {}
    for count in (1, 2):
        workers = parallel.Workers(backend="loky", scheduler=None, count=count, threads=1)
        job = partial(
            train_seed,
            partial(networks.build, "addition", sizes),
            partial(train_stage.load_splits, data.folder, data.manifest),
            recipe=replace(one_epoch("float32"), epochs=2),
            setting=replace(compute_config(settings.train, _CPU), threads=1),
            files=Scratch(folder / f"scratch-{count}"),
        )
        outcomes = parallel.train("addition", job, [51, 52, 53, 54], workers)
        epoch_s[count] = np.mean([seconds for run in outcomes.values() for seconds in run.epoch_s])
    return float(2 * epoch_s[1] / epoch_s[2])


def peak_gflops(precision: str, threads: int) -> float:
    """The best of several products of matrices, made larger as long as one takes no time to speak of.

    Without instructions for bfloat16 a processor takes minutes for what takes others a moment.
    """
    torch.set_num_threads(threads)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    side, best_s = _LEAST_SIDE // 2, 0.0
    while side < _MOST_SIDE and best_s < _LONG_ENOUGH_S:
        side *= 2
        left, right = (torch.randn(side, side).to(dtype) for _ in range(2))
        best_s = min(_seconds(lambda left=left, right=right: left @ right) for _ in range(4))
    return 2 * side**3 / best_s / 1e9


def epoch_gflop(name: str, data: Data, settings: Params) -> float:
    """Multiplications and additions of an epoch in 10^9: forward and backward, and the validation's forward.

    A late model's is that of its nets, which the yardstick runs.
    """
    network = networks.build(name, checkpoints.architecture(data.manifest, settings.network))
    train, validation = data.cached
    with FlopCounterMode(display=False) as counter:
        loss = network(*train.batch(range(32))).sum()
        forward = counter.get_total_flops()
        loss.backward()
    num_train, num_validation = len(train), len(validation)
    return (counter.get_total_flops() * num_train + forward * num_validation) / 32 / 1e9


def table(
    measured: dict[str, dict[str, list[Measurement]]], work: dict[str, float], peaks: dict[str, float]
) -> str:
    rows = []
    for name, kinds in measured.items():
        usual_s = median(kinds["notebook"])
        for kind, results in kinds.items():
            seconds = [result.seconds for result in results]
            speed = work[name] / median(results)
            # Late fusion's engine leaves out the very work that is counted.
            counts = kind in peaks and name != "late"
            rows.append(
                [
                    name,
                    kind,
                    f"{median(results):.3g}",
                    f"{min(seconds):.3g} to {max(seconds):.3g}",
                    f"{usual_s / median(results):.2f}",
                    f"{speed:.0f}" if name != "late" else "",
                    f"{speed / peaks[kind]:.0%}" if counts else "",
                    f"{max(result.memory_mib for result in results):,.0f}",
                ]
            )
    headers = ["Model", "", "Epoch (s)", "Range", "Ratio", "GFLOP/s", "Of the peak", "Peak memory (MiB)"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def median(results: list[Measurement]) -> float:
    return float(np.median([result.seconds for result in results]))


def _allocate_as_usual() -> None:
    """Undoes what the engine tells glibc: the thresholds that it arrives at by itself."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
