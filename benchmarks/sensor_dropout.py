"""What is left of every fusion when a sensor fails, in two runs with different `train.augment.sensor_dropout`.

    dvc exp run -S train.augment.sensor_dropout=0.3 -S 'evaluate.severities=[]'
    python benchmarks/sensor_dropout.py HEAD [OTHER] [--json FILE]

Reads reports/statistics.json of two revisions: commits, branches or DVC experiments. Without a second one it
reads the file in the current folder. Prints balanced accuracy at each failure rate, both runs side by side; computes
nothing else. A star marks rates above those in training.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # so that `python benchmarks/sensor_dropout.py` works as well
    sys.path.insert(0, str(ROOT))

from dvc import api
from dvc.exceptions import DvcException
from dvc.scm import SCMError
from tabulate import tabulate

from stages.lib.comparison import results
from stages.lib.comparison.results import FAILURES

# What must not differ between the two runs.
SAME = ("split", "seeds", "num_scenes", "classes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="revision or experiment")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    if len(given.runs) > 2:
        parser.error("name one or two runs")
    names = [*given.runs, "this folder"][:2]
    first, second = read(given.runs[0]), read(given.runs[1] if len(given.runs) > 1 else None)
    require_same(first, second, names)
    for text in tables(first, second):
        print(f"{text}\n")
    print(
        "Means over seeds; *: beyond the rate in training. Single networks never missed their sensor. "
        "statistics.json has intervals; no difference is tested here."
    )
    if given.json:
        given.json.write_text(json.dumps(figures(first, second), indent=2) + "\n")


def read(run: str | None) -> dict[str, Any]:
    """The comparison of a revision; of the current folder for None."""
    place = f"{run or 'this folder'}: {results.PATH}"
    try:
        text = results.PATH.read_text() if run is None else api.read(str(results.PATH), rev=run)
    except (OSError, DvcException, SCMError) as error:
        sys.exit(f"error: {place}: {str(error).splitlines()[0]}")
    found = json.loads(text)
    if "sensor_dropout" not in found:
        sys.exit(f"error: {place} holds no failure rates; run `dvc repro` with this version and commit")
    return found


def require_same(first: dict[str, Any], second: dict[str, Any], names: list[str]) -> None:
    for key in SAME:
        if first[key] != second[key]:
            sys.exit(f"error: {key} is {first[key]} in {names[0]}, but {second[key]} in {names[1]}")
    if rates(first) != rates(second):
        sys.exit(f"error: evaluate.failure_rates differ between {names[0]} and {names[1]}")


def rates(run: dict[str, Any]) -> list[float]:
    return next(curve["rates"] for model in run["models"].values() for curve in model["failures"].values())


def figures(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """By case and model: the failure curves of both runs."""
    both = {"sensor_dropout": [run["sensor_dropout"] for run in (first, second)]}
    return both | {
        case: {
            name: [run["models"][name]["failures"][case] for run in (first, second)]
            for name in shared(first, second)
        }
        for case in FAILURES
    }


def shared(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The models that both runs have."""
    return [name for name, model in first["models"].items() if model["failures"] and name in second["models"]]


def tables(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """One table for each case, with a row for each model and run."""
    found = []
    for case, words in FAILURES.items():
        rows = []
        for name in shared(first, second):
            for run in (first, second):
                curve = run["models"][name]["failures"][case]
                trained = results.trained_rates(run["sensor_dropout"])[case]
                cells = [
                    f"{value:.3f}{'*' if rate > trained else ''}"
                    for rate, value in zip(curve["rates"], curve["accuracies"], strict=True)
                ]
                rows.append([name, f"{run['sensor_dropout']:.0%}", *cells])
        titles = [words, "sensor_dropout", *(f"{rate:.0%}" for rate in rates(first))]
        found.append(tabulate(rows, titles, "github", disable_numparse=True))
    return found


if __name__ == "__main__":
    main()
