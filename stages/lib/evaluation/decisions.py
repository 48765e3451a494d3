"""Decisions with the sensors in every state, on disk: reports/decisions/NAME.parquet, one row per seed and group.

Beside `seed` and `group`, the file has a column for each state: `clean`, `rgb missing`, `both missing`, `lidar fog 3`
and so on. It holds the class that the model decides for, with classes weighed by their shares in the training split;
it is empty where the group was not evaluated in that state.

S = seeds;  N = groups of the split
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from stages.lib.core.errors import UserError
from stages.lib.evaluation import columns

FOLDER = Path("reports/decisions")
CLEAN = "clean"
MISSING = "missing"
BOTH = "both"  # in place of a sensor's name
ABSENT = -1  # in place of a decision that was not made


@dataclass(frozen=True)
class Decisions:
    """All seeds' decisions of one model on the split that sensors are corrupted on."""

    seeds: list[int]
    groups: list[str]
    decided: dict[str, Int[np.ndarray, "S N"]]  # by state; `ABSENT` for groups that are not in it


def write(name: str, decisions: Decisions) -> None:
    """Writes the decisions of a model."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    seeds, groups = decisions.seeds, decisions.groups
    table = {
        "seed": columns.numbers(np.repeat(np.array(seeds, dtype=np.int64), len(groups))),
        "group": columns.texts(groups * len(seeds)),
    }
    for state, decided in decisions.decided.items():
        flat = decided.reshape(-1).astype(np.int16)
        table[state] = columns.numbers(flat, flat == ABSENT)
    pq.write_table(pa.table(table), FOLDER / f"{name}.parquet")


def read(name: str) -> Decisions:
    """The decisions of a model, seeds in ascending order.

    Raises:
        UserError: when they are missing, or of other groups for some seed.
    """
    path = FOLDER / f"{name}.parquet"
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro` evaluates {name}")
    table = pq.ParquetFile(path).read()
    by_row = table["seed"].to_pylist()
    seeds = list(dict.fromkeys(by_row))
    count = len(by_row) // max(len(seeds), 1)
    groups = table["group"].to_pylist()
    if by_row != [seed for seed in seeds for _ in range(count)] or groups != groups[:count] * len(seeds):
        raise UserError(f"{path}: seeds hold different groups; run `dvc repro`")
    order = np.argsort(seeds)
    return Decisions(
        seeds=sorted(seeds),
        groups=groups[:count],
        decided={
            state: table[state]
            .fill_null(ABSENT)
            .to_numpy()
            .reshape(len(seeds), count)[order]
            .astype(np.int64)
            for state in table.column_names
            if state not in ("seed", "group")
        },
    )
