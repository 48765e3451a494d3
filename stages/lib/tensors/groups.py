"""The table of the groups in the tensor cache: what is known of each beside its tensors; export/ writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

FILE = "groups.parquet"


@dataclass(frozen=True)
class CachedGroup:
    """What is known of one group, beside its tensors."""

    split: str
    group: str  # its key
    scene: str
    label: int
    returns: int  # number of LiDAR returns
    mean_range_m: float  # mean range of the returns; 0 where there is none


def read(folder: Path, split: str) -> list[CachedGroup]:
    """The groups of a split, in the order of their tensors."""
    # Not `read_table`, whose filters import pandas: half a second, in every process that asks.
    rows = pq.ParquetFile(folder / FILE).read().to_pylist()
    return [CachedGroup(**row) for row in rows if row["split"] == split]
