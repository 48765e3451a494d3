"""Metrics of one set of predictions: arrays in, numbers out.

N = samples;  K = logits: 1 for two classes, else one per class;  L = classes
"""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.lib.evaluations import Metrics

# Equal-mass bins of the calibration error: with equal widths, confident models leave most bins empty.
_CALIBRATION_BINS = 15

# A class without a training sample would get probability 0 from a baseline, and one such sample in the
# test split an infinite loss; baselines treat it as if it had been seen half a time.
_UNSEEN_CLASS_SAMPLES = 0.5


def log_probabilities(logits: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N L"]:
    """Log-probabilities of all classes, from one logit or one per class."""
    logits = logits.astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    return log_softmax(logits, axis=1)


def sample_losses(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Cross-entropy of each sample in nats."""
    return -log_probabilities(logits)[np.arange(len(labels)), labels]


def predicted(logits: Float[np.ndarray, "N K"]) -> Int[np.ndarray, "N"]:
    """The most probable class of each sample; an exact draw goes to the lower label."""
    return log_probabilities(logits).argmax(axis=1)


def measure(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, "N"]) -> Metrics:
    """All metrics of a split's predictions."""
    log_probability = log_probabilities(logits)
    guess = predicted(logits)
    with warnings.catch_warnings():
        # Classes that occur only among the predictions are no fault of the data.
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        balanced_accuracy = float(balanced_accuracy_score(labels, guess))
    return Metrics(
        loss=float(sample_losses(logits, labels).mean()),
        accuracy=float((guess == labels).mean()),
        balanced_accuracy=balanced_accuracy,
        f1=float(f1_score(labels, guess, average="macro", labels=np.unique(labels), zero_division=0)),
        auroc=auroc(log_probability, labels),
        ece=calibration_error(log_probability, guess == labels),
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
        return float(roc_auc_score(labels == 1, log_probability[:, 1] - log_probability[:, 0]))
    areas = [roc_auc_score(labels == index, log_probability[:, index]) for index in classes]
    return float(np.mean(areas))


def calibration_error(log_probability: Float[np.ndarray, "N L"], correct: np.ndarray) -> float:
    """Expected calibration error of the predicted class, over bins of equal mass.

    Source: Naeini et al. 2015; equal mass after Nguyen and O'Connor 2015.
    """
    confidence = np.exp(log_probability.max(axis=1))
    by_confidence = np.argsort(confidence, kind="stable")
    bins = np.array_split(by_confidence, min(_CALIBRATION_BINS, len(confidence)))
    gaps = [abs(confidence[part].mean() - correct[part].mean()) * len(part) for part in bins]
    return float(sum(gaps) / len(confidence))


def prior_logits(
    labels: Int[np.ndarray, "N"], num_classes: int, num_samples: int
) -> Float[np.ndarray, "M K"]:
    """Logits of always predicting the class frequencies of `labels`, for M = num_samples rows."""
    counts = np.maximum(np.bincount(labels, minlength=num_classes), _UNSEEN_CLASS_SAMPLES)
    logits = np.log(counts / counts.sum())
    row = logits[1:] - logits[:1] if num_classes == 2 else logits
    return np.tile(row, (num_samples, 1))


def return_count_logits(
    train: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, "N"],
    features: Float[np.ndarray, "M D"],
    num_classes: int,
) -> Float[np.ndarray, "M K"]:
    """Logits of a logistic regression on trivial features, such as the number of returns."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(train, labels)
    log_probability = model.predict_log_proba(features)
    if num_classes == 2:
        return log_probability[:, 1:] - log_probability[:, :1]
    logits = np.full((len(features), num_classes), np.log(_UNSEEN_CLASS_SAMPLES / len(labels)))
    logits[:, model.classes_] = log_probability
    return logits
