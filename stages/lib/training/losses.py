"""The training loss.

B = batch;  N = samples;  K = logits: 1 for two classes, else one per class
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def losses(logits: Float[Tensor, "B K"], labels: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Cross-entropy of each sample in nats: binary from one logit, else over the classes."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], labels.float(), reduction="none")
    return F.cross_entropy(logits, labels, reduction="none")


class TrainingLoss:
    """The loss that training lowers: cross-entropy, with smoothed labels and weights of the classes.

    Label smoothing (Szegedy et al. 2016, arXiv 1512.00567): a part of each label is spread over all classes, so that
    no logit gains by growing without bound. That part goes to the classes by their shares. Then the probability of
    each class, divided by its share, grows by the same amount, so that decisions in which all classes count the same
    do not come to prefer rare ones.

    Args:
        labels: of the training split.
        smoothing: the part of each label that is spread, from 0 to below 1.
        weights: "none" or "balanced", see `class_weights`.
    """

    def __init__(self, labels: Int[Tensor, "N"], smoothing: float, weights: str) -> None:
        counts = torch.bincount(
            labels.cpu(), minlength=2
        )  # classes with higher labels have no training sample
        self._smoothing = smoothing
        self._shares = (counts / len(labels)).to(labels.device)
        self._weights = class_weights(labels.cpu(), len(counts), weights).to(labels.device)

    def __call__(self, logits: Float[Tensor, "B K"], labels: Int[Tensor, "B"]) -> Float[Tensor, ""]:
        """Mean over a batch, in nats."""
        return (self._losses(logits, labels) * self._weights[labels]).mean()

    def _losses(self, logits: Float[Tensor, "B K"], labels: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        if self._smoothing == 0:
            return losses(logits, labels)
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        num_classes = logits.shape[1]
        shares = F.pad(self._shares, (0, num_classes - len(self._shares)))
        targets = self._smoothing * shares + (1 - self._smoothing) * F.one_hot(labels, num_classes)
        return F.cross_entropy(logits.float(), targets, reduction="none")


def class_weights(labels: Int[Tensor, "N"], num_classes: int, setting: str) -> Float[Tensor, "classes"]:
    """The weight of each class's samples in the training loss.

    balanced: N / (classes that occur x samples of the class), so that all classes have the same weight and the
    mean over samples is 1 (King and Zeng 2001; scikit-learn's "balanced").
    """
    if setting == "none":
        return torch.ones(num_classes)
    counts = torch.bincount(labels, minlength=num_classes).float()
    return torch.where(counts > 0, len(labels) / ((counts > 0).sum() * counts.clamp(min=1)), 0.0)
