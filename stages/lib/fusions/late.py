"""Late fusion by a small perceptron over two frozen nets."""

from __future__ import annotations

from stages.lib.fusions.base import PerceptronFusion


class Late(PerceptronFusion):
    """A perceptron over the logits of both nets: 2K to hK to K, with ReLU between (2-10-1 for two classes, h = 10).

    Formula: y[K] = W[K, hK] ReLU(V[hK, 2K] [rgb[K], lidar[K]] + v[hK]) + w[K]
    Strength: the nets of the sensors can be trained and replaced separately; the fusion itself trains in seconds.
    Limitation: it combines two predictions, not two sets of features; it cannot use features that are informative
    only together. The model contains the parameters of both nets.
    Parameters: 3*h*K**2 + h*K + K
    Source: the course notebook.
    """
