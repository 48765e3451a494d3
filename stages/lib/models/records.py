"""Records of a run beside its results: losses by epoch, and measured times.

reports/history/NAME.csv           one line per seed and epoch
reports/timing/train-NAME.json     seconds, memory, device, versions: values that differ between repetitions
reports/timing/evaluate-NAME.json  latency

S = seeds;  E = epochs
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from stages.lib.core.errors import UserError

HISTORY = Path("reports/history")
TIMING = Path("reports/timing")
_COLUMNS = ["epoch", "seed", "learning_rate", "train_loss", "valid_loss"]


def write_history(name: str, rows: Iterable[dict[str, int | float]]) -> None:
    """Writes a model's learning rates and losses; each row has a value for every column.

    The file is replaced in one step, since a program that draws live curves may read it at any time.
    """
    HISTORY.mkdir(parents=True, exist_ok=True)
    path = HISTORY / f"{name}.csv"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(_lines([dict(zip(_COLUMNS, _COLUMNS, strict=True)), *rows]))
    temporary.replace(path)


def append_history(name: str, rows: Iterable[dict[str, int | float]]) -> None:
    """Adds rows to a model's history while it trains, in one step: a reader sees whole lines."""
    with (HISTORY / f"{name}.csv").open("a", newline="") as file:
        file.write(_lines(rows))


def _lines(rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, _COLUMNS, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_history(name: str) -> dict[str, Float[np.ndarray, "S E"]]:
    """`train` and `valid` losses of a model, by seed and epoch; NaN from where a seed stopped early.

    Raises:
        UserError: when they are missing.
    """
    rows = _history_rows(name)
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    num_epochs = max(int(row["epoch"]) for row in rows)
    losses = {part: np.full((len(seeds), num_epochs), np.nan) for part in ("train", "valid")}
    for row in rows:
        for part, values in losses.items():
            values[seeds.index(row["seed"]), int(row["epoch"]) - 1] = float(row[f"{part}_loss"])
    return losses


def read_epochs(name: str) -> dict[int, list[dict[str, int | float]]]:
    """The epochs of a model by seed, with all values of the history but the seed.

    Raises:
        UserError: when they are missing.
    """
    epochs: dict[int, list[dict[str, int | float]]] = {}
    for row in _history_rows(name):
        seed, epoch = int(row.pop("seed")), int(row.pop("epoch"))
        epochs.setdefault(seed, []).append(
            {"epoch": epoch} | {key: float(value) for key, value in row.items()}
        )
    return epochs


def _history_rows(name: str) -> list[dict[str, str]]:
    with _existing(HISTORY / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


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
