"""Metrics of one set of predictions: arrays in, numbers out.

Written out in NumPy, and held to scikit-learn's by tests: importing that takes three seconds of each stage
that evaluates a model.

N = samples;  K = logits: 1 for two classes, else one per class;  L = classes
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.lib.evaluations import Metrics

# Equal-mass bins of the calibration error: with equal widths, confident models leave most bins empty.
_CALIBRATION_BINS = 15


def log_probabilities(logits: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N L"]:
    """Log-probabilities of all classes, from one logit or one per class."""
    logits = logits.astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def sample_losses(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Cross-entropy of each sample in nats."""
    return -log_probabilities(logits)[np.arange(len(labels)), labels]


def predicted(logits: Float[np.ndarray, "N K"]) -> Int[np.ndarray, "N"]:
    """The most probable class of each sample; an exact draw goes to the lower label."""
    return log_probabilities(logits).argmax(axis=1)


def measure(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, "N"]) -> Metrics:
    """All metrics of a split's predictions."""
    log_probability = log_probabilities(logits)
    counts = confusion(logits, labels)
    return Metrics(
        loss=float(sample_losses(logits, labels).mean()),
        accuracy=float(counts.trace() / len(labels)),
        balanced_accuracy=balanced_accuracy(counts),
        f1=macro_f1(counts),
        auroc=auroc(log_probability, labels),
        ece=calibration_error(log_probability, log_probability.argmax(axis=1) == labels),
    )


def confusion(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, "N"]) -> Int[np.ndarray, "L L"]:
    """Number of samples by true (row) and predicted class."""
    num_classes = max(2, logits.shape[1])
    return np.bincount(num_classes * labels + predicted(logits), minlength=num_classes**2).reshape(
        num_classes, num_classes
    )


def balanced_accuracy(counts: Int[np.ndarray, "L L"]) -> float:
    """Mean recall over the classes that occur (Brodersen et al. 2010), from a confusion matrix."""
    occurs = counts.sum(axis=1) > 0
    return float((counts.diagonal()[occurs] / counts.sum(axis=1)[occurs]).mean())


def macro_f1(counts: Int[np.ndarray, "L L"]) -> float:
    """Mean F1 over the classes that occur, from a confusion matrix; 0 for a class that is never met."""
    occurs = counts.sum(axis=1) > 0
    return float(
        (2 * counts.diagonal() / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1))[occurs].mean()
    )


def auroc(log_probability: Float[np.ndarray, "N L"], labels: Int[np.ndarray, "N"]) -> float | None:
    """Area under the ROC curve, averaged over the classes that occur, each against the rest.

    None when only one class occurs. Two classes give the usual binary area.
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        return None
    if log_probability.shape[1] == 2:
        # The log-odds rank like the probability, without its ties at 0 and 1.
        return _area(log_probability[:, 1] - log_probability[:, 0], labels == 1)
    return float(np.mean([_area(log_probability[:, index], labels == index) for index in classes]))


def _area(scores: Float[np.ndarray, "N"], positive: Bool[np.ndarray, "N"]) -> float:
    """Share of pairs of a positive and another sample in which the first scores higher; equal ones count half."""
    _, rank = np.unique(scores, return_inverse=True)
    hits, misses = (np.bincount(rank[part], minlength=rank.max() + 1) for part in (positive, ~positive))
    won = hits @ (np.cumsum(misses) - misses / 2)
    return float(won / (hits.sum() * misses.sum()))


def calibration_error(log_probability: Float[np.ndarray, "N L"], correct: np.ndarray) -> float:
    """Expected calibration error of the predicted class, over bins of equal mass.

    Source: Naeini et al. 2015; equal mass after Nguyen and O'Connor 2015.
    """
    confidence = np.exp(log_probability.max(axis=1))
    by_confidence = np.argsort(confidence, kind="stable")
    bins = np.array_split(by_confidence, min(_CALIBRATION_BINS, len(confidence)))
    gaps = [abs(confidence[part].mean() - correct[part].mean()) * len(part) for part in bins]
    return float(sum(gaps) / len(confidence))
