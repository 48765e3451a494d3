"""Calibration: how confidence and accuracy agree, before and after temperature scaling.

S = seeds;  N = samples;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar

from stages.lib.comparison.results import Calibration, Reliability
from stages.lib.evaluation import metrics
from stages.lib.evaluation.predictions import SplitPredictions

_TEMPERATURES = (0.05, 20.0)


def calibrate(validation: SplitPredictions, judged: SplitPredictions) -> Calibration:
    """Fits a temperature to each seed on validation, and measures calibration on the split of the verdicts."""
    temperatures = [temperature(logits, validation.labels) for logits in validation.logits]
    scaled = judged.logits / np.array(temperatures)[:, None, None]
    return Calibration(
        temperatures,
        float(np.mean(temperatures)),
        reliability(judged.logits, judged.labels),
        reliability(scaled, judged.labels),
    )


def temperature(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, "N"]) -> float:
    """The number that logits are divided by to give the least cross-entropy (Guo et al. 2017, arXiv 1706.04599)."""

    def loss(log_temperature: float) -> float:
        return float(metrics.sample_losses(logits / np.exp(log_temperature), labels).mean())

    return float(np.exp(minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded").x))


def reliability(logits: Float[np.ndarray, "S N K"], labels: Int[np.ndarray, "N"]) -> Reliability:
    log_probability = metrics.log_probabilities(logits.reshape(-1, logits.shape[-1]))
    confidence = np.exp(log_probability.max(axis=1))
    correct = log_probability.argmax(axis=1) == np.tile(labels, len(logits))
    bins = metrics.calibration_bins(log_probability)
    return Reliability(
        confidence=[float(confidence[part].mean()) for part in bins],
        accuracy=[float(correct[part].mean()) for part in bins],
        ece=float(np.mean([_ece(part, labels) for part in logits])),
    )


def _ece(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, "N"]) -> float:
    log_probability = metrics.log_probabilities(logits)
    return metrics.calibration_error(log_probability, log_probability.argmax(axis=1) == labels)
