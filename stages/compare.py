"""Compares all models and baselines, and draws the figures.

    python -m stages.compare

Reads reports/evaluation, predictions, history, timing and data/tensors; writes
reports/comparison.csv, reports/statistics.json and reports/figures/. Nothing here depends on `fusion`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from stages.lib import comparison, params, plots, tensors, terminal
from stages.lib import manifest as manifests
from stages.lib.comparison import Comparison
from stages.lib.plots import Figure

FIGURES = Path("reports/figures")


def main() -> None:
    settings = params.load()
    manifest = manifests.load(tensors.FOLDER)
    compared = comparison.compare(
        settings.model_names(), settings.fusion_names(), manifest, settings.report.confidence
    )
    comparison.write_csv(compared)
    last_epoch_best = comparison.count_last_epoch_best(settings.model_names())
    comparison.write_statistics(compared, manifest, last_epoch_best)
    draw_figures(compared, settings.model_names())


def draw_figures(compared: Comparison, names: list[str]) -> None:
    """The comparison's own figures, and those of the data that the export has drawn."""
    shutil.rmtree(FIGURES, ignore_errors=True)
    FIGURES.mkdir(parents=True)
    save(draw_loss_curves(compared, names), "loss_curves")
    save(draw_metric_bars(compared, names), "balanced_accuracy")
    save(draw_sizes(compared, names), "parameters")
    for path in sorted((tensors.FOLDER / tensors.PICTURES).glob("*.png")):
        shutil.copyfile(path, FIGURES / path.name)


def draw_loss_curves(compared: Comparison, names: list[str]) -> Figure:
    prior = compared.models["prior"].metrics["validation"]["loss"].mean
    return plots.loss_curves({name: comparison.read_history(name) for name in names}, prior)


def draw_metric_bars(compared: Comparison, names: list[str]) -> Figure:
    summaries = {name: compared.models[name].metrics[compared.split]["balanced_accuracy"] for name in names}
    return plots.metric_bars(
        {name: np.array(summary.values) for name, summary in summaries.items()},
        {name: (summary.low, summary.high) for name, summary in summaries.items()},
        chance=compared.models["prior"].metrics[compared.split]["balanced_accuracy"].mean,
        label=f"balanced accuracy, {compared.split} split",
        confidence=compared.confidence,
    )


def draw_sizes(compared: Comparison, names: list[str]) -> Figure:
    sizes_m = {name: compared.models[name].evaluation.cost.parameters / 1e6 for name in names}
    return plots.size_against_loss(sizes_m, {name: compared.losses(name) for name in names}, compared.split)


def save(figure: Figure, name: str) -> None:
    plots.save(figure, FIGURES / f"{name}.png")


if __name__ == "__main__":
    terminal.run(main)
