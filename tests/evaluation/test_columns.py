"""Columns of tables are those of `pyarrow.array`, to the byte."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stages.lib.evaluation import columns


@pytest.mark.parametrize("values", [[], ["a", "", "zwölf", "a"], ["x"] * 9])
def test_texts(values: list[str]) -> None:
    assert columns.texts(values).equals(pa.array(values, pa.string()))


@pytest.mark.parametrize("kind", [np.int64, np.int16, np.float32])
def test_numbers(kind: type) -> None:
    values = np.arange(-5, 16)[::2].astype(kind)  # strided
    assert columns.numbers(values).equals(pa.array(values))
    mask = values % 3 == 0
    assert columns.numbers(values, mask).equals(pa.array(values, mask=mask))
