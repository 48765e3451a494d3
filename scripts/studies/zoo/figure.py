"""Draws the zoo's variants: balanced accuracy at one number of parameters, and by the place of the fusion."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.studies.zoo.variants import Matched, Places
from stages.lib.comparison.results import Summary
from stages.lib.plots.style import colors, plt
from stages.lib.report import format

_APART = 0.17  # of the two runs of a fusion, and of fusions at one place


def draw(matched: Matched | None, places: Places | None) -> Figure:
    """A panel for each kind of variant that there is; at least one."""
    rows = 0 if matched is None else len(matched.names)
    count = (matched is not None) + (places is not None)
    figure, panels = plt.subplots(1, count, squeeze=False, figsize=(4.4 * count, max(3.2, 0.36 * rows + 1.2)))
    left = list(panels[0])
    if matched is not None:
        _draw_matched(left.pop(0), matched)
    if places is not None:
        _draw_places(left.pop(0), places)
    return figure


def _draw_matched(axis: Axes, found: Matched) -> None:
    palette = colors(found.main.settings.model_names())
    for place, name in enumerate(reversed(found.names)):
        for run, shift, face in ((found.main, _APART, "white"), (found.run, -_APART, palette[name])):
            summary = run.accuracy(name)
            if summary.low is not None and summary.high is not None:
                axis.hlines(place + shift, summary.low, summary.high, color=palette[name], linewidth=1.5)
            axis.plot(
                run.mean_accuracy(name),
                place + shift,
                "o",
                color=palette[name],
                markerfacecolor=face,
                markersize=6,
            )
    axis.set_yticks(range(len(found.names)), [format.label(name) for name in reversed(found.names)])
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_xlabel(f"balanced accuracy ({found.run.compared.split})")
    axis.set_title("filled: at one number of parameters; hollow: main run", fontweight="normal", loc="left")


def _draw_places(axis: Axes, found: Places) -> None:
    palette = colors(found.runs[found.default].settings.model_names())
    for index, name in enumerate(found.names):
        shift = _APART * (index - (len(found.names) - 1) / 2)
        summaries: dict[int, Summary] = {place: run.accuracy(name) for place, run in found.runs.items()}
        at = [place + shift for place in summaries]
        means = [run.mean_accuracy(name) for run in found.runs.values()]
        axis.plot(at, means, "o-", color=palette[name], linewidth=1, markersize=6, label=format.label(name))
        for place, summary in zip(at, summaries.values(), strict=True):
            if summary.low is not None and summary.high is not None:
                axis.vlines(place, summary.low, summary.high, color=palette[name], linewidth=1.5)
    axis.set_xticks(list(found.runs), [f"after block {place}" for place in found.runs])
    axis.set_xlim(min(found.runs) - 0.4, max(found.runs) + 0.4)
    axis.grid(axis="y", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_ylabel(f"balanced accuracy ({found.runs[found.default].compared.split})")
    axis.set_xlabel("where the sensors meet")
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(found.names), borderaxespad=0.2)
