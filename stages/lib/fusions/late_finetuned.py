"""Late fusion whose nets are trained further."""

from __future__ import annotations

from stages.lib.fusions.base import PerceptronFusion


class LateFinetuned(PerceptronFusion):
    """The notebook's perceptron over the logits of both nets; the nets are trained further together with it.

    Training starts from the trained nets, with the settings of whole networks (`train.epochs`,
    `train.learning_rate`), not those of a head.

    Formula: y[K] = W[K, hK] ReLU(V[hK, 2K] [rgb[K], lidar[K]] + v[hK]) + w[K]
    Strength: each net can specialise in samples that the other one gets wrong.
    Limitation: it costs as much again as the training of both nets; and these nets are no longer the ones that were
    evaluated alone.
    Parameters: 3*h*K**2 + h*K + K
    Source: the course notebook's head; fine-tuning is common practice.
    """

    trains_nets = True
