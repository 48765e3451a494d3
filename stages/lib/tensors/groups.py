"""Reads the table of the groups in the tensor cache: split, scene, label and more of each; export/ writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

FILE = "groups.parquet"


@dataclass(frozen=True)
class CachedGroup:
    """Facts about one group of the cache."""

    split: str
    group: str  # its key: the path of its image in the dataset's folder, without suffix
    scene: str
    label: int
    returns: int  # number of LiDAR returns
    mean_range_m: float  # of the returns; 0 if there are none


def read(folder: Path, split: str) -> list[CachedGroup]:
    """The groups of a split, in the order of their tensors."""
    # Not `read_table`: it imports pandas, which takes half a second in every process.
    rows = pq.ParquetFile(folder / FILE).read().to_pylist()
    return [CachedGroup(**row) for row in rows if row["split"] == split]
