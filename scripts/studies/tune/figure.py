"""The figure of `make tune`: every model's balanced accuracy with default settings and with its own."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from scripts.studies.tune.comparison import Trained, Tuning
from stages.lib.plots import style
from stages.lib.plots.style import plt
from stages.lib.report.format import label, points
from stages.lib.statistics.results import Contrast

NAME = "tuned.png"
_APART = 0.17  # of the two runs' marks from the middle of a row


def save(tuning: Tuning, folder: Path) -> None:
    style.save(draw(tuning), folder / NAME)


def draw(tuning: Tuning) -> Figure:
    """A row for each model, the best tuned fusion first and sensors last: default above, tuned below."""
    names = tuning.order
    palette = style.colors(list(tuning.models))
    figure, axis = plt.subplots(figsize=(6.8, 0.36 * len(names) + 1.2))
    for place, name in enumerate(reversed(names)):
        model = tuning.models[name]
        if place % 2 == 0:
            axis.axhspan(place - 0.5, place + 0.5, color="0.965", linewidth=0, zorder=0)
        ends = [(model.default, place + _APART), (model.tuned, place - _APART)]
        axis.plot(
            [trained.accuracy.mean for trained, _ in ends],
            [height for _, height in ends],
            color="0.45",
            linewidth=1,
            zorder=3,
        )
        _mark(axis, *ends[0], color="0.62", face="white")
        _mark(axis, *ends[1], color=palette[name], face=palette[name])
        gain = "same" if model.is_same else points(model.gain.difference, sign=True)
        is_claim = isinstance(model.gain, Contrast) and model.gain.outcome in ("better", "worse")
        axis.text(
            1.02,
            place,
            gain,
            transform=axis.get_yaxis_transform(),
            va="center",
            fontweight="bold" if is_claim else "normal",
            color="black" if is_claim else "0.4",
        )
    axis.axhline(
        len(tuning.models) - len(tuning.fusions) - 0.5, color="0.6", linewidth=0.8
    )  # above the sensors
    axis.text(1.02, len(names) - 0.35, "points", transform=axis.get_yaxis_transform(), color="0.4")
    axis.set_yticks(range(len(names)), [label(name) for name in reversed(names)])
    axis.set_ylim(-0.5, len(names) - 0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="0.88", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_xlabel(f"balanced accuracy on the {tuning.split} split")
    axis.set_title(
        f"open: default settings; filled: own settings; bars: {tuning.confidence:.0%} intervals\n"
        "right: change, bold where significant",
        fontweight="normal",
        loc="left",
    )
    return figure


def _mark(axis: plt.Axes, trained: Trained, height: float, *, color: str, face: str) -> None:
    """A mean with its interval."""
    found = trained.accuracy
    if found.low is not None and found.high is not None:
        axis.hlines(height, found.low, found.high, color=color, linewidth=3, alpha=0.5, zorder=2)
    axis.plot(
        found.mean,
        height,
        "o",
        markersize=5,
        markerfacecolor=face,
        markeredgecolor="black" if face != "white" else "0.3",
        markeredgewidth=0.8,
        zorder=4,
    )
