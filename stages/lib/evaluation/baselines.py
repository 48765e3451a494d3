"""Baselines that use neither images nor rasters: every network must be better.

N, M = samples;  D = features;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# A baseline would give probability 0 to a class without training samples, and one such sample in the test split would
# make the loss infinite; baselines count such a class as half a training sample.
_UNSEEN_CLASS_SAMPLES = 0.5


def prior_logits(
    labels: Int[np.ndarray, "N"], num_classes: int, num_samples: int
) -> Float[np.ndarray, "M K"]:
    """Logits of the class frequencies of `labels`, the same for each of M = num_samples rows."""
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
    """Logits of a logistic regression on simple features, such as the number of returns."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(train, labels)
    log_probability = model.predict_log_proba(features)
    if num_classes == 2:
        return log_probability[:, 1:] - log_probability[:, :1]
    logits = np.full((len(features), num_classes), np.log(_UNSEEN_CLASS_SAMPLES / len(labels)))
    logits[:, model.classes_] = log_probability
    return logits
