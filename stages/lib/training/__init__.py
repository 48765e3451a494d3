"""Training: the loop over epochs, and around it seeds at once, resumption, devices, and runs on disk.

What the loop offers is this package's own: `training.fit`, `training.Recipe`, and so on.
"""

from stages.lib.training.loop import (
    CachedLogits,
    Diverged,
    Epoch,
    Inputs,
    OutOfMemory,
    Recipe,
    Run,
    class_weights,
    fit,
    learning_rate_at,
    losses,
    predict,
    seeded_build,
)

__all__ = [
    "CachedLogits",
    "Diverged",
    "Epoch",
    "Inputs",
    "OutOfMemory",
    "Recipe",
    "Run",
    "class_weights",
    "fit",
    "learning_rate_at",
    "losses",
    "predict",
    "seeded_build",
]
