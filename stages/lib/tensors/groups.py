"""Reads the table of the groups in the tensor cache: split, scene, label and more of each; export/ writes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

FILE = "groups.parquet"
CONDITION = "condition_"  # a column's name starts with it, the condition's name follows


@dataclass(frozen=True)
class CachedGroup:
    """Facts about one group of the cache."""

    split: str
    group: str  # its key: the path of its image in the dataset's folder, without suffix
    scene: str
    label: int
    returns: int  # number of LiDAR returns
    mean_range_m: float  # of the returns; 0 if there are none
    conditions: dict[str, str] = field(default_factory=dict)  # the group's value of each condition


def read(folder: Path, split: str) -> list[CachedGroup]:
    """The groups of a split, in the order of their tensors."""
    # Not `read_table`: it imports pandas, which takes half a second in every process.
    rows = pq.ParquetFile(folder / FILE).read().to_pylist()
    return [_group(row) for row in rows if row["split"] == split]


def condition_columns(groups: list[CachedGroup]) -> dict[str, list[str]]:
    """The conditions as columns of a table; every group has the same ones."""
    names = list(groups[0].conditions) if groups else []
    return {f"{CONDITION}{name}": [group.conditions[name] for group in groups] for name in names}


def _group(row: dict[str, Any]) -> CachedGroup:
    conditions = {
        column.removeprefix(CONDITION): row.pop(column)
        for column in list(row)
        if column.startswith(CONDITION)
    }
    return CachedGroup(**row, conditions=conditions)
