"""Sets the style of all figures, and saves them.

A model has the same colour in all figures, by its place in params.yaml. Colour-blind readers can distinguish the
first eight colours (Okabe and Ito 2008). Every mark also has a name, so figures stay readable in black and white.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from stages.lib.core import processes

matplotlib.use("Agg")


PALETTE = ["#999999", "#666666", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
# For so many models that colours alone no longer distinguish them (after CARTO's "Bold").
PALETTE += ["#7F3C8D", "#11A579", "#3969AC", "#F2B701", "#E73F74", "#80BA5A", "#8C564B", "#008695"]
PALETTE += ["#CF1C90", "#F97B72", "#4B4B8F", "#A5AA99", "#17BECF", "#BCBD22"]
# Colours of classes and splits, which no model has (after Tol 2021's muted scheme).
DISTINCT = ["#332288", "#AA4499", "#999933", "#882255", "#DDCC77", "#88CCEE"]
_LONGEST = 40  # characters of a user's text in a figure
_METHOD = Image.Quantize.MAXCOVERAGE  # keeps the colours of small areas; k-means keeps those of large areas

plt.rcParams.update(
    {
        "figure.dpi": 130,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "legend.frameon": False,
    }
)


def colors(names: list[str]) -> dict[str, str]:
    """A colour for each model, by its place in the list."""
    return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}


def plain(text: str) -> str:
    """Text of users, to be drawn as it is written, but for the end of long lines, which would leave no room for data.

    Without this, Matplotlib takes dollar signs for formulas, leaves names with a leading underscore out of legends,
    and draws the same box for all characters that its font lacks.
    """
    text = "\n".join(
        line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..." for line in text.split("\n")
    )
    drawn = in_known_characters(text).replace("$", r"\$")
    return f" {drawn}" if drawn.startswith("_") else drawn


def in_known_characters(text: str) -> str:
    """Text with the numbers of the characters that the font lacks, such as \\u732b."""
    known = _characters()
    return "".join(char if char == "\n" or ord(char) in known else f"\\u{ord(char):04x}" for char in text)


@functools.cache
def _characters() -> frozenset[int]:
    """The characters of the font of all figures."""
    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG of 256 colours, much smaller than one of all colours, and closes the figure."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg), "another backend than Agg"
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    plt.close(figure)
    drawn.quantize(256, _METHOD, kmeans=1).save(path, optimize=True)


_waiting: dict[Path, Figure] = {}  # for forked processes, which inherit it: figures cannot be sent to them


def save_all(figures: dict[Path, Figure]) -> None:
    """Writes figures as `save` does, in as many processes as cores: most of the work is Python's own."""
    _waiting.update(figures)
    pool = ProcessPoolExecutor(
        max(1, min(len(os.sched_getaffinity(0)), len(figures))),
        mp_context=multiprocessing.get_context("fork"),
        initializer=processes.exit_with_parent,
        initargs=(os.getpid(),),
    )
    try:
        with pool:
            with processes.sigint_blocked():
                saved = pool.map(_save_waiting, figures)
            for _ in saved:
                pass
    finally:
        _waiting.clear()
        for figure in figures.values():
            plt.close(figure)


def _save_waiting(path: Path) -> None:
    save(_waiting[path], path)
