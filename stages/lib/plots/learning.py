"""Draws learning curves: losses over the epochs.

S = seeds;  E = epochs
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.lib.plots import panels
from stages.lib.plots.style import colors


def loss_curves(curves: dict[str, dict[str, Float[np.ndarray, "S E"]]], prior_loss: float) -> Figure:
    """Training and validation loss over the epochs; one panel for each model.

    Args:
        curves: by model, `train` and `valid` losses; NaN after the last epoch of a seed.
        prior_loss: validation loss when the prediction is always the class frequencies.
    """
    figure, axes = panels.grid(len(curves), 3, 2.3, sharey=True)
    palette = colors(list(curves))
    for axis, (name, losses) in zip(axes, curves.items(), strict=True):
        num_epochs = losses["valid"].shape[1]
        epochs = np.arange(1, num_epochs + 1)
        marker = "o" if num_epochs <= 20 else None
        low, high = np.nanmin(losses["valid"], axis=0), np.nanmax(losses["valid"], axis=0)
        axis.fill_between(epochs, low, high, color=palette[name], alpha=0.25, linewidth=0)
        mean = np.nanmean(losses["valid"], axis=0)
        label = "validation (mean; band: all seeds)"
        axis.plot(epochs, mean, color=palette[name], linewidth=2, marker=marker, markersize=3, label=label)
        axis.plot(
            epochs,
            np.nanmean(losses["train"], axis=0),
            color="black",
            linewidth=1,
            linestyle=":",
            marker=marker,
            markersize=2,
            label="training (mean)",
        )
        axis.axhline(prior_loss, color="black", linewidth=0.8, linestyle="--", label="class prior")
        axis.set_title(name)
        axis.set_xlim(0.7, num_epochs + 0.3)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    # One very high loss would make all curves look flat, so higher values are cut off.
    typical = max(float(np.nanmedian(losses[part])) for losses in curves.values() for part in losses)
    axes[0].set_ylim(0, 1.25 * max(prior_loss, typical))
    for axis in axes[::3]:
        axis.set_ylabel("loss (nats)")
    figure.supxlabel("epoch", fontsize=9)
    panels.legend_above(figure, axes[0])
    return figure
