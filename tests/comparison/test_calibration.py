"""Temperature scaling and reliability, against what is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from stages.lib.comparison import calibration
from stages.lib.evaluation.predictions import SplitPredictions


def made_up(temperature: float, *, count: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are this many times too large, and labels drawn from the right ones."""
    rng = np.random.default_rng(seed)
    right = rng.normal(0, 2, count)
    return (temperature * right)[:, None], (rng.random(count) < expit(right)).astype(int)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    logits, labels = made_up(temperature)
    assert calibration.temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_scaling_calibrates() -> None:
    splits = []
    for seed in (0, 1):
        logits, labels = made_up(3.0, seed=seed)
        names = [str(i) for i in range(len(labels))]
        splits.append(SplitPredictions([51, 52], names, names, labels, np.stack([logits, logits])))
    found = calibration.calibrate(*splits)
    assert len(found.temperatures) == 2
    assert found.before.ece > 0.1 and found.after.ece < 0.015
    assert found.after.accuracy == pytest.approx(found.after.confidence, abs=0.05)
    assert len(found.before.confidence) == 15
