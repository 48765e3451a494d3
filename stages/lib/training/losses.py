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


def smoothed_losses(
    logits: Float[Tensor, "B K"], labels: Int[Tensor, "B"], smoothing: float
) -> Float[Tensor, "B"]:
    """Cross-entropy against labels of which a share is spread evenly over all classes, in nats.

    Label smoothing (Szegedy et al. 2016, arXiv 1512.00567): no logit gains by growing without bound.
    """
    plain = losses(logits, labels)
    if smoothing == 0:
        return plain
    if logits.shape[1] == 1:
        even = F.softplus(logits[:, 0].float()) - 0.5 * logits[:, 0].float()  # mean over both labels
    else:
        even = -F.log_softmax(logits.float(), dim=1).mean(dim=1)
    return (1 - smoothing) * plain + smoothing * even


def class_weights(labels: Int[Tensor, "N"], num_classes: int, setting: str) -> Float[Tensor, "classes"]:
    """The weight of each class's samples in the training loss.

    balanced: N / (classes that occur x samples of the class), so that all classes have the same weight and the
    mean over samples is 1 (King and Zeng 2001; scikit-learn's "balanced").
    """
    if setting == "none":
        return torch.ones(num_classes)
    counts = torch.bincount(labels, minlength=num_classes).float()
    return torch.where(counts > 0, len(labels) / ((counts > 0).sum() * counts.clamp(min=1)), 0.0)
