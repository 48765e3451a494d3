"""Compares all models and baselines, and draws the figures.

    python -m stages.compare

Reads reports/evaluation, predictions, history, timing and data/tensors; writes
reports/comparison.csv, reports/statistics.json and reports/figures/. Nothing here depends on `fusion`.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.lib import params
from stages.lib.comparison import compare, figures, results
from stages.lib.core import console
from stages.lib.tensors import manifest as manifests


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    settings = params.load()
    manifest = manifests.load(manifests.FOLDER)
    compared = compare.compare(settings.model_names(), settings.fusion_names(), manifest, settings.report)
    results.write_csv(compared)
    results.write_statistics(compared, manifest, settings.evaluate.corrupted_groups)
    figures.save(figures.draw(compared, settings, manifest))


if __name__ == "__main__":
    console.run(main)
