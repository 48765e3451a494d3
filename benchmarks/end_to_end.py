"""`make notebook` from start to end, compared with the notebook's training alone.

    python benchmarks/end_to_end.py [--epochs 2 10] [--precisions float32 bfloat16] [--json FILE]
    python benchmarks/end_to_end.py --default [--set KEY=VALUE ...] [--json FILE]

Writes a dataset of the notebook's size (1,076 groups) into a temporary folder. The reference
(benchmarks/notebook.py) loads it and trains the notebook's six models in one process. The pipeline runs the
notebook's preset in a clone of this project with an empty cache: all stages with their processes and imports,
export, evaluation and report, in float32 and in bfloat16. Takes about ten minutes for 2 epochs, and 35 for 2
and 10; much longer on a processor without instructions for bfloat16, where `--precisions float32` leaves that out.

With --default it is the default run instead, in such a clone: how long each kind of stage takes, how much of it is
not training, and DVC's own share.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dvc.utils.hydra import apply_overrides
from tabulate import tabulate

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # so that `python benchmarks/end_to_end.py` works as well
    sys.path.insert(0, str(ROOT))

from benchmarks import export as export_benchmark
from benchmarks.train import GROUPS
from stages.lib import params

PRECISIONS = ["float32", "bfloat16"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--default", action="store_true", help="measure the stages of the default run")
    parser.add_argument("--set", nargs="+", default=[], help="settings of the default run, as KEY=VALUE")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    if given.default:
        stages = measure_stages(given.set)
        print(
            tabulate(
                [[name, f"{seconds:.1f}"] for name, seconds in stages.items()], ["", "Seconds"], "github"
            )
        )
        share = 1 - stages["epochs of training"] / stages["all"]
        print(f"\nnot training: {share:.1%} of the run")
        if given.json:
            given.json.write_text(json.dumps(stages, indent=2) + "\n")
        return
    settings = params.load(ROOT / "params.yaml")
    figures = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        dataset = Path(folder) / "dataset"
        splits = [split for split, count in GROUPS.items() for _ in range(count)]
        export_benchmark.write_dataset(dataset, splits, export_benchmark.render(settings), settings)
        for epochs in given.epochs:
            figures[epochs] = measure(Path(folder), dataset, epochs, given.precisions)
    rows = [
        [epochs, kind, f"{seconds:.1f}", f"{seconds / row['notebook']:.2f}"]
        for epochs, row in figures.items()
        for kind, seconds in row.items()
    ]
    print(
        tabulate(rows, ["Epochs", "", "Seconds", "Share of the notebook's"], "github", disable_numparse=True)
    )
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(folder: Path, dataset: Path, epochs: int, precisions: list[str]) -> dict[str, float]:
    """Seconds of the reference, and of the pipeline in each precision."""
    reference = [str(ROOT / "benchmarks" / "notebook.py"), str(dataset), "--epochs", str(epochs)]
    seconds = {"notebook": timed(reference, ROOT)}
    for precision in precisions:
        # One clone for each, so that neither finds the other's tensors in DVC's cache.
        clone = folder / f"{precision}-{epochs}"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        preset = ["-m", "scripts.studies", "notebook", str(dataset)]
        sets = [f"train.epochs={epochs}", f"train.late.epochs={epochs}", f"train.precision={precision}"]
        seconds[precision] = timed([*preset, *sets], clone)
    return seconds


# Runs Python in place of a stage's own, and notes how long it took.
_TIMED_PYTHON = """#!/bin/sh
started=$(date +%s.%N)
{python} "$@"
code=$?
echo "$2 $started $(date +%s.%N)" >> {log}
exit $code
"""


def measure_stages(overrides: list[str]) -> dict[str, float]:
    """Seconds of each kind of stage in the default run with these settings, of its epochs, and of all.

    The epochs of a model are those of all its seeds, divided by the number of seeds that trained at once.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        clone, log, shim = Path(folder) / "clone", Path(folder) / "log", Path(folder) / "bin" / "python"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        (clone / "dvc.lock").unlink(missing_ok=True)
        apply_overrides(clone / "params.yaml", overrides)
        shim.parent.mkdir()
        shim.write_text(_TIMED_PYTHON.format(python=sys.executable, log=log))
        shim.chmod(0o755)
        environment = os.environ | {"PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}"}
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=clone, env=environment, check=True)
        whole_s = time.perf_counter() - started
        seconds: dict[str, float] = {}
        for line in log.read_text().splitlines():
            module, start_s, end_s = line.split()
            seconds[module] = seconds.get(module, 0.0) + float(end_s) - float(start_s)
        epochs_s = 0.0
        for path in (clone / "reports" / "timing").glob("train-*.json"):
            found = json.loads(path.read_text())
            at_once = min(found["workers"], len(found["seeds"]))
            epochs_s += sum(sum(seed["epoch_s"]) for seed in found["seeds"].values()) / at_once
    dvc_s = whole_s - sum(seconds.values())
    return seconds | {"DVC itself": dvc_s, "epochs of training": epochs_s, "all": whole_s}


def timed(arguments: list[str], folder: Path) -> float:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(f"`python {' '.join(arguments)}` failed; its own message is above")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
