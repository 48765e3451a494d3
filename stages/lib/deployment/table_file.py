"""Writes predictions as a table, a batch at a time: Parquet or CSV."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from jaxtyping import Float, Int

from stages.lib.deployment.prediction import Predicted

SUFFIXES = (".parquet", ".csv")


class PredictionFile:
    """A table with a row for each group.

    Columns: group, scene and label where the dataset has them, the predicted class, the probability of each class
    and its standard deviation over seeds (empty with one seed), and the sensors that were missing.
    """

    def __init__(self, path: Path, classes: list[str], *, has_scenes: bool, has_labels: bool) -> None:
        self._classes, self._has_scenes, self._has_labels = classes, has_scenes, has_labels
        texts = ["group", *["scene"] * has_scenes, *["label"] * has_labels, "predicted"]
        numbers = [f"{prefix}_{name}" for prefix in ("p", "spread") for name in classes]
        self._schema = pa.schema(
            [
                *((name, pa.string()) for name in texts),
                *((name, pa.float64()) for name in numbers),
                ("missing", pa.string()),
            ]
        )
        if path.suffix == ".parquet":
            self._writer: Any = pyarrow.parquet.ParquetWriter(path, self._schema)
        else:
            self._writer = pyarrow.csv.CSVWriter(path, self._schema)

    def __enter__(self) -> PredictionFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def add(
        self,
        predicted: Predicted,
        decisions: Int[np.ndarray, "N"],
        probabilities: Float[np.ndarray, "Z N L"],
    ) -> None:
        """Adds the rows of a batch.

        Args:
            decisions: of all seeds together.
            probabilities: calibrated, by seed.
        """
        groups = predicted.groups
        columns: dict[str, Any] = {"group": [group.key for group in groups]}
        if self._has_scenes:
            columns["scene"] = [group.scene for group in groups]
        if self._has_labels:
            columns["label"] = [group.label or None for group in groups]
        columns["predicted"] = [self._classes[label] for label in decisions]
        means = probabilities.mean(axis=0)
        for place, name in enumerate(self._classes):
            columns[f"p_{name}"] = means[:, place]
        for place, name in enumerate(self._classes):
            several = len(probabilities) > 1
            spread = probabilities[:, :, place].std(axis=0, ddof=1) if several else [None] * len(groups)
            columns[f"spread_{name}"] = spread
        columns["missing"] = [
            " ".join(sensor for sensor, rows in predicted.missing.items() if rows[place])
            for place in range(len(groups))
        ]
        self._writer.write(pa.table(columns, schema=self._schema))
