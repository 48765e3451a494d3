"""The figure of all models' accuracies."""

from __future__ import annotations

import numpy as np
import pytest

from stages.lib.plots import accuracy
from stages.lib.plots.style import plt


@pytest.mark.parametrize(
    ("worst", "is_chance_shown"),
    [(0.55, True), (0.70, True), (0.80, False)],
)
def test_the_axis_is_the_models_and_the_best_is_on_top(worst: float, is_chance_shown: bool) -> None:
    values = {
        "rgb": np.array([worst, worst + 0.02]),
        "addition": np.array([0.95, 0.97]),
        "late": np.array([0.98, 0.98]),
    }
    intervals = {"rgb": (worst - 0.02, worst + 0.04), "addition": (0.93, 0.99), "late": (None, None)}
    figure = accuracy.metric_intervals(values, intervals, 0.5, "balanced accuracy", 0.95)
    (axis,) = figure.axes
    labels = [
        label.get_text() for _, label in sorted(zip(axis.get_yticks(), axis.get_yticklabels(), strict=True))
    ]
    assert labels == ["rgb", "addition", "late"]
    left, right = axis.get_xlim()
    assert (left < 0.5) == is_chance_shown
    assert left < worst - 0.02 and right > 1
    assert left > worst - 0.04 or is_chance_shown
    title = axis.get_title(loc="left")
    assert ("dashed: class prior" in title) == is_chance_shown
    assert ("class prior: 0.500" in title) != is_chance_shown
    plt.close(figure)
