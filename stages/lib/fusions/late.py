"""Late fusion by a small perceptron over two frozen nets."""

from __future__ import annotations

from stages.lib.fusions.base import PerceptronFusion


class Late(PerceptronFusion):
    """A perceptron over both nets' logits: 2K to hK to K with ReLU between (2-10-1 for two classes, h = 10).

    Formula: y[K] = W[K, hK] ReLU(V[hK, 2K] [rgb[K], lidar[K]] + v[hK]) + w[K]
    Strength: sensors are trained, replaced and repaired apart; the fusion itself trains in seconds.
    Limitation: it sees two opinions, not two views; features that only mean something together are
    gone. Both nets' parameters have to be carried.
    Parameters: 3*h*K**2 + h*K + K
    Source: the course notebook.
    """
