"""Which labels may be wrong: nets that are right on other samples agree on another class.

It is a suspicion only. A hard sample, such as a dark picture with an empty scan, can look the same: all nets learned
from the same training data, so they also share errors.

    M = nets, each model with each seed;  N = samples;  L = classes
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from stages.lib.comparison import calibration
from stages.lib.comparison.results import LabelCheck, LabelError
from stages.lib.evaluation import metrics
from stages.lib.evaluation.predictions import SplitPredictions

MOST_LISTED = 20  # of each split

_AGREEMENT = 0.9  # of the nets, at least
_ENOUGH = 0.5  # of the way from chance to a balanced accuracy of 1, at least, for a net that judges labels


def mistakenness(
    probability: Float[np.ndarray, "N L"], labels: Int[np.ndarray, "N"]
) -> Float[np.ndarray, "N"]:
    """From 0, all probability is the label's, to 1, all is another class's; 0.5 where the two are equal.

    Args:
        probability: of each class, mean over nets, calibrated.
    """
    samples = np.arange(len(labels))
    other = suggested(probability, labels)
    return (1 + probability[samples, other] - probability[samples, labels]) / 2


def suggested(probability: Float[np.ndarray, "N L"], labels: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """The most probable class of each sample that is not its label."""
    others = probability.copy()
    others[np.arange(len(labels)), labels] = -1
    return others.argmax(axis=1)


def check(
    split: str,
    judged: dict[str, SplitPredictions],
    validation: dict[str, SplitPredictions],
    shares: Float[np.ndarray, "L"],
    classes: list[str],
) -> tuple[LabelCheck, list[LabelError]]:
    """The likeliest label errors of a split, the likeliest first; at most MOST_LISTED.

    Only nets count whose balanced accuracy on the split is at least half-way between chance and 1. A sample is listed
    when at least 90 % of them decide for the same class, which is not its label. Labels of classes without training
    groups are not judged, because no net can have learned them.

    Args:
        judged: predictions of each model on the split.
        validation: the same models' predictions on validation, which set the temperatures (see calibration.py).
        shares: of each class in the training split.
    """
    first = next(iter(judged.values()))
    labels = first.labels
    probabilities, decisions = [], []
    num_trained = 0
    could_learn = shares[labels] > 0
    chance = 1 / max(len(np.unique(labels[could_learn])), 1)
    for name, found in judged.items():
        decided = found.decisions(shares)
        num_trained += len(decided)
        for seed, (logits, own) in enumerate(zip(found.logits, decided, strict=True)):
            counts = metrics.confusion_of(own[could_learn], labels[could_learn], len(classes))
            if chance < 1 and metrics.balanced_accuracy(counts) >= chance + _ENOUGH * (1 - chance):
                temperature = calibration.temperature(validation[name].logits[seed], validation[name].labels)
                probabilities.append(np.exp(metrics.log_probabilities(logits / temperature)))
                decisions.append(own)
    if not decisions:
        return LabelCheck(nets=0, trained=num_trained, found=0), []
    probability = np.mean(probabilities, axis=0)
    other = suggested(probability, labels)
    agree = (np.stack(decisions) == other).sum(axis=0)
    score = mistakenness(probability, labels)
    doubtful = np.flatnonzero((agree >= _AGREEMENT * len(decisions)) & could_learn)
    # By score; of equal ones the first, as on any machine.
    worst = doubtful[np.argsort(-score[doubtful], kind="stable")][:MOST_LISTED]
    return LabelCheck(nets=len(decisions), trained=num_trained, found=len(doubtful)), [
        LabelError(
            group=first.groups[i],
            split=split,
            label=classes[labels[i]],
            suggested=classes[other[i]],
            mistakenness=float(score[i]),
            agree=int(agree[i]),
            nets=len(decisions),
        )
        for i in worst.tolist()
    ]
