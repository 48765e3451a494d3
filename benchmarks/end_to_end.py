"""`make notebook` from start to end, compared with the notebook's training alone.

    python benchmarks/end_to_end.py [--epochs 2 10] [--json FILE]

Writes a dataset of the notebook's size (1,076 groups) into a temporary folder. The reference
(benchmarks/notebook.py) loads it and trains the notebook's six models in one process. The pipeline runs the
notebook's preset in a clone of this project with an empty cache: all stages with their processes and imports,
export, evaluation and report, in float32 and in bfloat16. Takes about ten minutes for 2 epochs, and 35 for 2
and 10.
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

from tabulate import tabulate

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # so that `python benchmarks/end_to_end.py` works as well
    sys.path.insert(0, str(ROOT))

from benchmarks import export as export_benchmark
from benchmarks.train import GROUPS
from stages.lib import params


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    settings = params.load(ROOT / "params.yaml")
    figures = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        dataset = Path(folder) / "dataset"
        splits = [split for split, count in GROUPS.items() for _ in range(count)]
        export_benchmark.write_dataset(dataset, splits, export_benchmark.render(settings), settings)
        for epochs in given.epochs:
            figures[epochs] = measure(Path(folder), dataset, epochs)
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


def measure(folder: Path, dataset: Path, epochs: int) -> dict[str, float]:
    """Seconds of the reference, and of the pipeline in each precision."""
    reference = [str(ROOT / "benchmarks" / "notebook.py"), str(dataset), "--epochs", str(epochs)]
    seconds = {"notebook": timed(reference, ROOT)}
    for precision in ("float32", "bfloat16"):
        # One clone for each, so that neither finds the other's tensors in DVC's cache.
        clone = folder / f"{precision}-{epochs}"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        preset = ["-m", "scripts.studies", "notebook", str(dataset)]
        sets = [f"train.epochs={epochs}", f"train.late.epochs={epochs}", f"train.precision={precision}"]
        seconds[precision] = timed([*preset, *sets], clone)
    return seconds


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
