"""Training speed, compared with the notebook's implementation.

    python benchmarks/train.py [--json FILE] [--rounds 3] [--threads 2] [--models rgb late ...] [--fusions film ...]

Writes a dataset of the notebook's size (897 training and 179 validation groups) into a temporary folder. Then
trains each model for one epoch, in turn and in one process: with the reference (benchmarks/notebook.py), and
with this project's code in float32 and in bfloat16. The first round is a warm-up and does not count. The
reference decodes PNGs, this project reads its tensor cache of the same dataset; both validate. Speeds are
compared with the fastest matrix product of PyTorch on as many threads. Then each fusion of one network is
trained for an epoch in turn with addition, or with concatenation if it has as many fused channels. Takes about
fifteen minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # so that `python benchmarks/train.py` works as well
    sys.path.insert(0, str(ROOT))

from benchmarks import export as export_benchmark
from benchmarks import hardware, notebook
from benchmarks.recipe import notebook_settings
from stages import export
from stages import train as train_stage
from stages.lib import fusions, params
from stages.lib.core.names import SENSORS
from stages.lib.models import devices, networks
from stages.lib.models.architecture import Architecture
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


@dataclass(frozen=True)
class Measurement:
    """One epoch."""

    seconds: float
    memory_mib: float


@dataclass(frozen=True)
class Data:
    """The same groups in the form that the reference reads, and in the form that this project reads."""

    folder: Path
    manifest: Manifest
    reference: tuple[notebook.Samples, notebook.Samples]
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
        peaks = {precision: hardware.peak_gflops(precision, given.threads) for precision in _PRECISIONS}
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
    """Writes and exports the dataset, and opens it in both forms."""
    dataset = folder / "dataset"
    splits = [split for split, count in counts.items() for _ in range(count)]
    export_benchmark.write_dataset(dataset, splits, export_benchmark.render(settings), settings)
    manifests.FOLDER = folder / "tensors"
    manifest = export.export(replace(settings.dataset, path=str(dataset)), settings.export)
    return Data(
        folder=manifests.FOLDER,
        manifest=manifest,
        reference=(notebook.load(dataset, "train"), notebook.load(dataset, "validation")),
        cached=train_stage.load_splits(manifests.FOLDER, manifest),
    )


def measure(
    name: str, data: Data, rounds: int, threads: int, settings: Params
) -> dict[str, list[Measurement]]:
    """Epochs of one model, by the reference and by this project in turn."""
    implementations: dict[str, Callable[[], Measurement]] = {
        "notebook": partial(time_reference, name, data, threads)
    }
    for precision in _PRECISIONS:
        implementations[precision] = partial(time_project, name, data, precision, threads, settings)
    measured: dict[str, list[Measurement]] = {kind: [] for kind in implementations}
    for number in range(rounds + 1):
        for kind, run in implementations.items():
            result = run()
            print(f"{name}, {kind}: {result.seconds:.3f} s", file=sys.stderr, flush=True)
            if number:
                measured[kind].append(result)
    return measured


def time_reference(name: str, data: Data, threads: int) -> Measurement:
    hardware.restore_default_allocation()
    notebook.configure_torch(threads)
    notebook.set_seeds(51)
    nets = {sensor: notebook.build(sensor, {}) for sensor in SENSORS} if name == "late" else {}
    net = notebook.build(name, nets)
    devices.reset_peak_memory(_CPU)
    result = notebook.train_model(net, *data.reference, epochs=1)
    return Measurement(result.epoch_s[0], devices.peak_memory_mib(_CPU))


def time_project(name: str, data: Data, precision: str, threads: int, settings: Params) -> Measurement:
    devices.prepare_process(threads)
    sizes = Architecture.from_settings(data.manifest, settings.network)
    inputs = data.cached
    if name == "late":
        nets = [devices.place(networks.build(sensor, sizes), _CPU) for sensor in SENSORS]
        inputs = tuple(late.cache_logits(*nets, split, _CPU) for split in data.cached)
        network = networks.build_head(name, sizes)
    else:
        network = networks.build(name, sizes)
    devices.reset_peak_memory(_CPU)
    config = one_epoch(name, precision)
    state = loop.fit(network, *inputs, config=config, seed=51, device=_CPU, on_epoch=lambda state: None)
    return Measurement(state.epoch_s[0], devices.peak_memory_mib(_CPU))


@dataclass(frozen=True)
class Operator:
    """An epoch of a fusion in float32, compared with that of a fusion with as many fused channels."""

    seconds: float  # median
    beside: str  # "addition" or "concatenation"
    ratio: float  # median over the rounds


def compare_fusions(
    names: list[str], data: Data, rounds: int, threads: int, settings: Params
) -> dict[str, Operator]:
    """Epochs of these fusions, and of the two that they are compared with, in turn."""
    timed = list(dict.fromkeys(["addition", "concatenation", *names])) if names else []
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 1):
        for name in timed:
            result = time_project(name, data, "float32", threads, settings)
            print(f"{name}: {result.seconds:.3f} s", file=sys.stderr, flush=True)
            if number:
                seconds[name].append(result.seconds)
    sizes = Architecture.from_settings(data.manifest, settings.network)
    doubled = networks.sketch("concatenation", sizes).fusion.out_channels
    operators = {}
    for name in names:
        out_channels = networks.sketch(name, sizes).fusion.out_channels
        beside = "concatenation" if out_channels == doubled else "addition"
        ratios = np.array(seconds[name]) / np.array(seconds[beside])
        operators[name] = Operator(float(np.median(seconds[name])), beside, float(np.median(ratios)))
    return operators


def fusion_table(operators: dict[str, Operator]) -> str:
    rows = [
        [name, f"{operator.seconds:.2f}", operator.beside, f"{operator.ratio:.2f}"]
        for name, operator in operators.items()
    ]
    return tabulate(rows, ["Fusion", "Epoch (s)", "Beside", "Ratio"], "github", disable_numparse=True)


def one_epoch(name: str, precision: str) -> TrainConfig:
    """One epoch of the notebook's training."""
    overrides = ["train.epochs=1", "train.late.epochs=1", f"train.precision={precision}"]
    return train_config(notebook_settings(*overrides).train, fusions.spec(name))


def seeds_parallel(data: Data, folder: Path, settings: Params) -> float:
    """Samples per second of two workers of one thread, without their start, divided by those of one worker."""
    sizes = Architecture.from_settings(data.manifest, settings.network)
    epoch_s = {}
    for count in (1, 2):
        workers = parallel.Workers(backend="loky", scheduler=None, count=count, threads=1)
        job = partial(
            train_seed,
            partial(networks.build, "addition", sizes),
            partial(train_stage.load_splits, data.folder, data.manifest),
            config=replace(one_epoch("addition", "float32"), epochs=2),
            compute=replace(compute_config(settings.train, _CPU), threads=1),
            scratch=Scratch(folder / f"scratch-{count}"),
        )
        states = parallel.train("addition", job, [51, 52, 53, 54], workers)
        epoch_s[count] = np.mean([seconds for state in states.values() for seconds in state.epoch_s])
    return float(2 * epoch_s[1] / epoch_s[2])


def epoch_gflop(name: str, data: Data, settings: Params) -> float:
    """10^9 multiplications and additions of an epoch: forward and backward in training, forward in validation.

    For late fusion, those of its networks, which the reference runs.
    """
    sizes = Architecture.from_settings(data.manifest, settings.network)
    training, forward = hardware.sample_gflop(networks.build(name, sizes), sizes)
    train, validation = data.cached
    return training * len(train) + forward * len(validation)


def table(
    measured: dict[str, dict[str, list[Measurement]]], work: dict[str, float], peaks: dict[str, float]
) -> str:
    rows = []
    for name, kinds in measured.items():
        reference_s = median(kinds["notebook"])
        for kind, results in kinds.items():
            seconds = [result.seconds for result in results]
            speed = work[name] / median(results)
            # This project's late fusion does not repeat the work that is counted.
            is_comparable = kind in peaks and name != "late"
            rows.append(
                [
                    name,
                    kind,
                    f"{median(results):.3g}",
                    f"{min(seconds):.3g} to {max(seconds):.3g}",
                    f"{reference_s / median(results):.2f}",
                    f"{speed:.0f}" if name != "late" else "",
                    f"{speed / peaks[kind]:.0%}" if is_comparable else "",
                    f"{max(result.memory_mib for result in results):,.0f}",
                ]
            )
    headers = ["Model", "", "Epoch (s)", "Range", "Ratio", "GFLOP/s", "Of the peak", "Peak memory (MiB)"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def median(results: list[Measurement]) -> float:
    return float(np.median([result.seconds for result in results]))


if __name__ == "__main__":
    main()
