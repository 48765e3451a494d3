"""Names of classes in figures: whatever people write is drawn, and nothing that Matplotlib makes of it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from matplotlib import font_manager

from stages.lib.plots import accuracy, dataset, errors, style
from stages.lib.plots.dataset import Histogram

NAMES = [
    "Ba$$in",
    "$5_$10",
    "_hidden",
    "\N{CJK UNIFIED IDEOGRAPH-732B}" * 9,
    "a\\$b\\frac{",
    "x" * 500,
    "naïve",
]


def test_names_are_drawn_as_written() -> None:
    assert style.plain("naïve | 50%") == "naïve | 50%"
    assert style.plain("$x$") == r"\$x\$"
    assert style.plain("_a").strip() == "_a" and not style.plain("_a").startswith("_")
    assert style.plain("\N{CJK UNIFIED IDEOGRAPH-732B}") == r"\u732b"
    assert len(style.plain("y" * 500)) == 40
    assert all(ord(char) in style._characters() for char in style.plain("".join(NAMES)))
    assert Path(font_manager.findfont("DejaVu Sans")).is_file()


def test_every_figure_with_names_can_be_drawn(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    bins = Histogram("m", np.linspace(0, 1, 5), np.arange(4))
    figures = {
        "balance": dataset.class_balance({"train": dict.fromkeys(NAMES, 3)}),
        "histograms": dataset.histograms({name: [bins] for name in NAMES}, {"train": [bins]}),
        "sheet": dataset.contact_sheet({name: [(pixels, pixels)] for name in NAMES}, 2),
        "confusion": accuracy.confusions({"late": np.eye(len(NAMES))}, NAMES),
        "errors": errors.error_samples(
            {"late": [errors.ErrorSample(pixels, pixels, f"{name}\nas $b$\n3 of 4 seeds") for name in NAMES]},
            7,
        ),
    }
    margin = [label.get_text().replace("\\$", "$") for label in figures["sheet"].axes[0].get_yticklabels()]
    assert max(len(line) for label in margin for line in label.split("\n")) <= 15, (
        "names fit beside the sheet"
    )
    legend = figures["histograms"].axes[0].get_legend()
    assert legend is not None and len(legend.get_texts()) == len(NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, figure in figures.items():
            style.save(figure, tmp_path / f"{name}.png")
    assert len(list(tmp_path.glob("*.png"))) == len(figures)
