"""Metrics of one set of predictions: arrays in, numbers out.

Plain NumPy, since importing scikit-learn takes three seconds in each stage that evaluates a model. Tests compare the
results with scikit-learn's.

N = samples;  K = logits: 1 for two classes, else one per class;  L = classes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num


@dataclass(frozen=True)
class Metrics:
    """A model's metrics on one split; None where a metric is not defined."""

    loss: float  # cross-entropy in nats, mean per sample
    accuracy: float
    balanced_accuracy: float  # mean recall over the classes that occur
    f1: float  # macro average
    f1_rare: float  # of the rarest class of the split
    auroc: float | None  # macro average, one class against the rest
    average_precision: float | None  # the same, under the precision-recall curve
    brier: float  # mean squared error of the probabilities
    ece: float  # expected calibration error, of the predicted class


# In place of the logarithm of a share of zero: larger than any logit.
_NEVER = 1e9

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
    """The most probable class of each sample; of equally probable ones the lower label."""
    return log_probabilities(logits).argmax(axis=1)


def weighed(
    logits: Float[np.ndarray, "*batch K"], shares: Float[np.ndarray, "L"]
) -> Float[np.ndarray, "*batch K"]:
    """Logits whose most probable class is that of p(class) / share of the class.

    Balanced accuracy weighs all classes alike, so its decisions must, too: on classes of 15:1 the most probable class
    is always the common one, even for a model that ranks the samples well. A class without share could not be
    learned and is never the most probable one.

    Args:
        shares: of each class in the training split.
    """
    log_shares = np.full(len(shares), _NEVER)
    np.log(shares, out=log_shares, where=shares > 0)
    return logits - (log_shares[1:] - log_shares[:1] if logits.shape[-1] == 1 else log_shares)


def measure(
    logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, "N"], shares: Float[np.ndarray, "L"]
) -> Metrics:
    """All metrics of a split's predictions.

    Args:
        shares: of each class in the training split; balanced accuracy and F1 weigh decisions by them.
    """
    log_probability = log_probabilities(logits)
    counts = confusion(weighed(logits, shares), labels)
    is_right = log_probability.argmax(axis=1) == labels
    areas = [
        ranked_areas(ranking_score(log_probability, label), labels == label, np.ones((1, len(labels))))
        for label in ranked_classes(labels, log_probability.shape[1])
    ]
    auroc, average_precision = np.mean(areas, axis=0)[:, 0].tolist() if areas else (None, None)
    return Metrics(
        loss=float(sample_losses(logits, labels).mean()),
        accuracy=float(is_right.mean()),
        balanced_accuracy=balanced_accuracy(counts),
        f1=macro_f1(counts),
        f1_rare=float(f1_scores(counts)[rarer_class(counts.sum(axis=1))]),
        auroc=auroc,
        average_precision=average_precision,
        brier=float(sample_briers(log_probability, labels).mean()),
        ece=calibration_error(log_probability, is_right),
    )


def confusion(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, "N"]) -> Int[np.ndarray, "L L"]:
    """Number of samples by true (row) and predicted class."""
    num_classes = max(2, logits.shape[1])
    return np.bincount(num_classes * labels + predicted(logits), minlength=num_classes**2).reshape(
        num_classes, num_classes
    )


def balanced_accuracy(counts: Int[np.ndarray, "L L"]) -> float:
    """Mean recall over the classes that occur (Brodersen et al. 2010), from a confusion matrix."""
    return float(np.nanmean(recalls(counts)))


def recalls(counts: Int[np.ndarray, "L L"]) -> Float[np.ndarray, "L"]:
    """Share of each class's samples that are predicted correctly, from a confusion matrix; NaN for absent classes."""
    total = counts.sum(axis=1)
    return np.where(total > 0, counts.diagonal() / np.maximum(total, 1), np.nan)


def macro_f1(counts: Int[np.ndarray, "L L"]) -> float:
    """Mean F1 over the classes that occur, from a confusion matrix."""
    return float(f1_scores(counts)[counts.sum(axis=1) > 0].mean())


def f1_scores(counts: Int[np.ndarray, "L L"]) -> Float[np.ndarray, "L"]:
    """F1 of each class, from a confusion matrix; 0 for a class that neither occurs nor is predicted."""
    return 2 * counts.diagonal() / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)


def rarer_class(counts: Num[np.ndarray, "L"]) -> int:
    """The class with the fewest samples of those that occur; of equally rare ones the last, usually the positive."""
    present = np.flatnonzero(counts)[::-1]
    return int(present[counts[present].argmin()])


def ranked_classes(labels: Int[np.ndarray, "N"], num_classes: int) -> list[int]:
    """The classes to rank against the rest: all that occur, of two only the second; none if a single one occurs."""
    occurring = np.unique(labels).tolist()
    if len(occurring) < 2:
        return []
    return [1] if num_classes == 2 else occurring


def ranking_score(log_probability: Float[np.ndarray, "N L"], label: int) -> Float[np.ndarray, "N"]:
    """The score that ranks samples by their probability of a class.

    For two classes it is the log-odds: they rank like the probability, without its ties at 0 and 1.
    """
    if log_probability.shape[1] == 2:
        return log_probability[:, label] - log_probability[:, 1 - label]
    return log_probability[:, label]


def ranked_areas(
    scores: Float[np.ndarray, "N"], positive: Bool[np.ndarray, "N"], weights: Float[np.ndarray, "D N"]
) -> Float[np.ndarray, "2 D"]:
    """Area under the ROC curve and average precision of weighted samples; equal scores share a rank.

    The area under the ROC curve is the share of pairs of a positive and a negative sample in which the positive one
    has the higher score; pairs with equal scores count half. NaN where the weights leave no positive or no negative
    sample.
    """
    order = np.argsort(-scores, kind="stable")
    first = np.flatnonzero(np.diff(scores[order], prepend=np.inf))  # of each run of equal scores
    weights, positive = weights[:, order], positive[order]
    hits, misses = (np.add.reduceat(weights * part, first, axis=1) for part in (positive, ~positive))
    hits_so_far, misses_so_far = hits.cumsum(axis=1), misses.cumsum(axis=1)
    num_hits, num_misses = hits_so_far[:, -1], misses_so_far[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        auroc = (misses * (hits_so_far - hits / 2)).sum(axis=1) / (num_hits * num_misses)
        precision = hits_so_far / np.maximum(hits_so_far + misses_so_far, 1)
        return np.stack([auroc, (hits * precision).sum(axis=1) / num_hits])


def sample_briers(
    log_probability: Float[np.ndarray, "N L"], labels: Int[np.ndarray, "N"]
) -> Float[np.ndarray, "N"]:
    """Squared error of each sample's probabilities (Brier 1950); halved for two classes, as is common."""
    squares = (np.exp(log_probability) - np.eye(log_probability.shape[1])[labels]) ** 2
    return squares.sum(axis=1) / (2 if log_probability.shape[1] == 2 else 1)


def calibration_error(log_probability: Float[np.ndarray, "N L"], correct: np.ndarray) -> float:
    """Expected calibration error of the predicted class, over bins of equal mass.

    Source: Naeini et al. 2015; equal mass after Nguyen and O'Connor 2015.
    """
    confidence = np.exp(log_probability.max(axis=1))
    gaps = [
        abs(confidence[part].mean() - correct[part].mean()) * len(part)
        for part in calibration_bins(log_probability)
    ]
    return float(sum(gaps) / len(confidence))


def calibration_bins(log_probability: Float[np.ndarray, "N L"]) -> list[Int[np.ndarray, "members"]]:
    """Samples in bins of (almost) the same size, by the confidence of their prediction.

    Samples of equal confidence share a bin; otherwise the result would depend on the order of the samples.
    """
    confidence = log_probability.max(axis=1)
    by_confidence = np.argsort(confidence, kind="stable")
    ranked = confidence[by_confidence]
    count = min(_CALIBRATION_BINS, len(ranked))
    first = np.array([part[0] for part in np.array_split(np.arange(len(ranked)), count)])
    edges = np.unique(np.searchsorted(ranked, ranked[first], side="left"))
    return np.split(by_confidence, edges[1:])
