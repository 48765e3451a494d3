"""Compares all models and baselines, and draws the figures.

    python -m stages.compare

Reads reports/evaluation, predictions, history, timing and data/tensors; writes
reports/comparison.csv, reports/statistics.json and reports/figures/. Nothing here depends on `fusion`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from stages.lib import comparison, lidar, params, plots, tensors, terminal
from stages.lib import manifest as manifests
from stages.lib.comparison import Comparison
from stages.lib.manifest import Manifest
from stages.lib.plots import Figure

FIGURES = Path("reports/figures")
MOST_SAMPLES = 8  # in the figure of samples, shared by the classes


def main() -> None:
    settings = params.load()
    manifest = manifests.load(tensors.FOLDER)
    compared = comparison.compare(
        settings.model_names(), settings.fusion_names(), manifest, settings.report.confidence
    )
    comparison.write_csv(compared)
    last_epoch_best = comparison.count_last_epoch_best(settings.model_names())
    comparison.write_statistics(compared, manifest, last_epoch_best)
    draw_figures(compared, settings.model_names(), manifest)


def draw_figures(compared: Comparison, names: list[str], manifest: Manifest) -> None:
    shutil.rmtree(FIGURES, ignore_errors=True)
    FIGURES.mkdir(parents=True)
    save(draw_loss_curves(compared, names), "loss_curves")
    save(draw_metric_bars(compared, names), "balanced_accuracy")
    save(draw_sizes(compared, names), "parameters")
    save(draw_samples(manifest), "samples")


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


def draw_samples(manifest: Manifest) -> Figure:
    """Training groups of every class, each of a scene of its own."""
    groups = tensors.read_groups(tensors.FOLDER, "train")
    split = tensors.Split(tensors.FOLDER, manifest, "train")
    per_class = max(1, MOST_SAMPLES // len(manifest.classes))
    chosen: list[int] = []
    for label in range(len(manifest.classes)):
        one_per_scene = {group.scene: i for i, group in enumerate(groups) if group.label == label}
        chosen += list(one_per_scene.values())[:per_class]
    pictures, depths = zip(*(split.stored(index) for index in chosen), strict=True)
    return plots.samples(
        [as_picture(rgb) for rgb in pictures],
        [lidar.depth_picture(xyza) for xyza in depths],
        [manifest.classes[groups[index].label] for index in chosen],
    )


def as_picture(rgb: np.ndarray) -> np.ndarray:
    """Channels first, grey, colour or with alpha, as H x W x 3."""
    colors = np.moveaxis(rgb, 0, -1)
    return np.repeat(colors, 3, axis=-1) if colors.shape[-1] == 1 else colors[..., :3]


def save(figure: Figure, name: str) -> None:
    figure.savefig(FIGURES / f"{name}.png")


if __name__ == "__main__":
    terminal.run(main)
