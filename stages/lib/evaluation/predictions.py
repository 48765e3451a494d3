"""Predictions on disk: reports/predictions/NAME.parquet, one row per seed and sample.

A column `condition_NAME` holds each sample's value of a condition, such as the weather.

S = seeds;  N = samples of a split;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from stages.lib.core.errors import UserError
from stages.lib.evaluation import columns, metrics
from stages.lib.evaluation.metrics import Metrics
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors.groups import CONDITION, CachedGroup

FOLDER = Path("reports/predictions")


@dataclass(frozen=True)
class Predictions:
    """The logits of one seed's model on one split, in the order of the groups."""

    seed: int
    split: str
    groups: list[CachedGroup]
    logits: Float[np.ndarray, "N K"]

    @property
    def labels(self) -> Int[np.ndarray, "N"]:
        return np.array([group.label for group in self.groups])


def measure_seeds(
    predictions: list[Predictions], shares: Float[np.ndarray, "L"]
) -> dict[int, dict[str, Metrics]]:
    """Metrics by seed and split; `shares` are those of the classes in the training split."""
    by_seed: dict[int, dict[str, Metrics]] = {}
    for part in predictions:
        by_seed.setdefault(part.seed, {})[part.split] = metrics.measure(part.logits, part.labels, shares)
    return by_seed


def write(name: str, predictions: list[Predictions]) -> None:
    """Writes a model's predictions of all seeds and splits."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    table = pa.concat_tables(_table(name, part) for part in predictions)
    pq.write_table(table, FOLDER / f"{name}.parquet")


@dataclass(frozen=True)
class SplitPredictions:
    """All seeds' predictions of one model on one split."""

    seeds: list[int]
    groups: list[str]
    scenes: list[str]
    labels: Int[np.ndarray, "N"]
    logits: Float[np.ndarray, "S N K"]
    conditions: dict[str, list[str]] = field(default_factory=dict)  # by condition, every group's value

    @property
    def num_logits(self) -> int:
        return self.logits.shape[2]

    def decisions(self, shares: Float[np.ndarray, "L"]) -> Int[np.ndarray, "S N"]:
        """The class that every seed decides for, with classes weighed by their shares in the training split."""
        return np.stack([metrics.predicted(logits) for logits in metrics.weighed(self.logits, shares)])

    def losses(self) -> Float[np.ndarray, "S N"]:
        """Cross-entropy of every sample under every seed."""
        return np.stack([metrics.sample_losses(logits, self.labels) for logits in self.logits])


def read(name: str, split: str) -> SplitPredictions:
    """A model's predictions on a split; every seed has the same groups in the same order.

    Raises:
        UserError: when predictions are missing, not finite, or of other groups for some seed.
    """
    path = FOLDER / f"{name}.parquet"
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro` evaluates {name}")
    table = pq.ParquetFile(path).read()
    table = table.filter(pa.array(name == split for name in table["split"].to_pylist()))
    if len(table) == 0:
        raise UserError(f"{path}: holds nothing on the {split} split; run `dvc repro`")
    seed_column = table["seed"].to_numpy()
    seeds = sorted(set(seed_column.tolist()))
    logit_names = sorted(
        (column for column in table.column_names if column.startswith("logit_")),
        key=lambda column: int(column.removeprefix("logit_")),
    )
    parts = [table.filter(pa.array(seed_column == seed)) for seed in seeds]
    first = parts[0]
    for seed, part in zip(seeds, parts, strict=True):
        if not part["group"].equals(first["group"]):
            raise UserError(f"{path}: seed {seed} holds other groups than seed {seeds[0]}")
    logits = np.stack([np.stack([part[name].to_numpy() for name in logit_names], axis=1) for part in parts])
    for seed, seed_logits in zip(seeds, logits, strict=True):
        if not np.isfinite(seed_logits).all():
            raise UserError(f"{path}: seed {seed} holds logits that are no finite numbers, {split} split")
    return SplitPredictions(
        seeds=seeds,
        groups=first["group"].to_pylist(),
        scenes=first["scene"].to_pylist(),
        labels=first["label"].to_numpy(),
        logits=logits,
        conditions={
            column.removeprefix(CONDITION): first[column].to_pylist()
            for column in first.column_names
            if column.startswith(CONDITION)
        },
    )


def _table(model: str, part: Predictions) -> pa.Table:
    count = len(part.groups)
    table = {
        "model": columns.texts([model] * count),
        "seed": columns.numbers(np.full(count, part.seed, dtype=np.int64)),
        "split": columns.texts([part.split] * count),
        "group": columns.texts([group.group for group in part.groups]),
        "scene": columns.texts([group.scene for group in part.groups]),
        "label": columns.numbers(part.labels.astype(np.int64)),
    }
    for name, values in stored_groups.condition_columns(part.groups).items():
        table[name] = columns.texts(values)
    for index in range(part.logits.shape[1]):
        table[f"logit_{index}"] = columns.numbers(part.logits[:, index].astype(np.float32))
    return pa.table(table)
