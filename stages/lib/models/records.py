"""Records of a run beside its results: losses by epoch, and measured times.

reports/history/NAME.csv           one line per seed and epoch
reports/timing/train-NAME.json     seconds, memory, device, versions: values that differ between repetitions
reports/timing/evaluate-NAME.json  latency

S = seeds;  E = epochs
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from stages.lib.core.errors import UserError

HISTORY = Path("reports/history")
TIMING = Path("reports/timing")
_COLUMNS = ["epoch", "seed", "learning_rate", "train_loss", "valid_loss"]


def write_history(name: str, rows: Iterable[dict[str, int | float]]) -> None:
    """Writes a model's learning rates and losses; each row has a value for every column."""
    HISTORY.mkdir(parents=True, exist_ok=True)
    with (HISTORY / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_history(name: str) -> dict[str, Float[np.ndarray, "S E"]]:
    """`train` and `valid` losses of a model, by seed and epoch; NaN from where a seed stopped early.

    Raises:
        UserError: when they are missing.
    """
    with _existing(HISTORY / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    num_epochs = max(int(row["epoch"]) for row in rows)
    losses = {part: np.full((len(seeds), num_epochs), np.nan) for part in ("train", "valid")}
    for row in rows:
        for part, values in losses.items():
            values[seeds.index(row["seed"]), int(row["epoch"]) - 1] = float(row[f"{part}_loss"])
    return losses


def write_timing(name: str, content: dict[str, Any]) -> None:
    """Writes measured times; the name is that of the stage and the model, such as train-rgb."""
    TIMING.mkdir(parents=True, exist_ok=True)
    (TIMING / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def read_timing(name: str) -> dict[str, Any]:
    """The content of a timing file.

    Raises:
        UserError: when it is missing.
    """
    return json.loads(_existing(TIMING / f"{name}.json").read_text())


def epoch_times(name: str) -> list[float]:
    """Seconds of every epoch of every seed of a model."""
    return [seconds for seed in read_timing(f"train-{name}")["seeds"].values() for seconds in seed["epoch_s"]]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `dvc repro`")
    return path
