"""Draws reliability diagrams."""

from __future__ import annotations

from matplotlib.figure import Figure

from stages.lib.plots import panels
from stages.lib.plots.style import colors


def reliability(bins: dict[str, dict[str, tuple[list[float], list[float]]]]) -> Figure:
    """Share of correct predictions over their confidence; one panel for each model.

    Args:
        bins: by model, "before" and "after" temperature scaling: confidence and accuracy of each bin.
    """
    palette = colors(list(bins))
    figure, axes = panels.grid(len(bins), 3, 2.3, sharex=True, sharey=True)
    styles = {"before": ("o-", 1.0), "after": ("s:", 0.55)}
    for axis, (name, states) in zip(axes, bins.items(), strict=True):
        least = min(min(confidence) for confidence, _ in states.values())
        axis.plot([least, 1], [least, 1], color="black", linewidth=0.8, linestyle="--", label="calibrated")
        for state, (confidence, accuracy) in states.items():
            style, alpha = styles[state]
            axis.plot(
                confidence,
                accuracy,
                style,
                color=palette[name],
                alpha=alpha,
                markersize=3,
                label=f"{state} scaling",
            )
        axis.set_title(name)
    for axis in axes[::3]:
        axis.set_ylabel("share correct")
    figure.supxlabel("confidence of the prediction", fontsize=9)
    legend = panels.legend_above(figure, axes[0])
    for line in legend.get_lines():  # the line styles are the same in all panels, the colours differ
        line.set_color("black")
    return figure
