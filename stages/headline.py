"""Writes the main metrics of the chosen fusion, for `dvc metrics` and `dvc exp show`.

    python -m stages.headline

Reads reports/evaluation/${fusion}.json; writes reports/metrics.json, means over seeds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from stages.lib import params
from stages.lib.core import console
from stages.lib.evaluation import results
from stages.lib.evaluation.results import Evaluation

METRICS = Path("reports/metrics.json")
TEST_METRICS = ("loss", "accuracy", "balanced_accuracy", "f1", "auroc", "ece")


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    evaluation = results.read(params.load().fusion)
    METRICS.write_text(json.dumps(headline(evaluation), indent=2) + "\n")


def headline(evaluation: Evaluation) -> dict[str, float]:
    """Means over seeds; without test metrics where there is no test split, or where a metric is undefined."""
    seeds = list(evaluation.seeds.values())
    numbers = {"val_loss": mean(splits["validation"].loss for splits in seeds)}
    if all("test" in splits for splits in seeds):
        for metric in TEST_METRICS:
            values = [getattr(splits["test"], metric) for splits in seeds]
            if None not in values:
                numbers[f"test_{metric}"] = mean(values)
    numbers["parameters_m"] = (evaluation.cost.parameters or 0) / 1e6
    return numbers


if __name__ == "__main__":
    console.run(main)
