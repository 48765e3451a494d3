"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from stages.lib.training.settings import TrainConfig


def learning_rate_at(step: int, num_steps: int, config: TrainConfig) -> float:
    """Learning rate of a step, counted from 0.

    cosine: half a cosine from the peak down to zero (Loshchilov and Hutter 2017, arXiv 1608.03983).
    one-cycle: a linear rise over the first 30 % of the steps, then half a cosine down to zero
    (Smith and Topin 2017, arXiv 1708.07120, in fast.ai's form).
    """
    if config.schedule == "constant":
        return config.learning_rate
    rise = 0.3 * num_steps if config.schedule == "one-cycle" else 0.0
    if step < rise:
        return config.learning_rate * (step + 1) / (rise + 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / (num_steps - rise)))
