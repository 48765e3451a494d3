"""Compares all models and baselines, and draws the figures.

    python -m stages.compare

Reads reports/evaluation, predictions, history, timing and data/tensors; writes
reports/comparison.csv, reports/statistics.json and reports/figures/. Nothing here depends on `fusion`.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.lib import params
from stages.lib.comparison import compare, figures, measured, results, table
from stages.lib.core import console
from stages.lib.tensors import manifest as manifests


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    settings = params.load()
    manifest = manifests.load(manifests.FOLDER)
    compared = compare.compare(settings, manifest)
    costs = {name: measured.read(name, compared.models[name].kind) for name in settings.model_names()}
    results.write(compared)
    table.write(compared, costs)
    figures.save(figures.draw(compared, costs, settings, manifest))


if __name__ == "__main__":
    console.run(main)
