"""Late fusion whose nets go on learning."""

from __future__ import annotations

from stages.lib.fusions.base import PerceptronFusion


class LateFinetuned(PerceptronFusion):
    """The notebook's perceptron over both nets' logits, with the nets unfrozen: all of it trains on.

    It starts from the trained nets and follows the recipe of whole networks (`train.epochs`,
    `train.learning_rate`), not that of heads.

    Formula: y[K] = W[K, hK] ReLU(V[hK, 2K] [rgb[K], lidar[K]] + v[hK]) + w[K]
    Strength: each net can specialise in what the other one misses.
    Limitation: costs as much as both nets' training, once more; the sensors' nets are no longer those that were
    tested alone.
    Parameters: 3*h*K**2 + h*K + K
    Source: the course notebook's head; fine-tuning is common practice.
    """

    trains_nets = True
