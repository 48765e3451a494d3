"""Renders the report from what the other stages found; computes nothing.

    python -m stages.report

Reads reports/statistics.json, metrics.json, timing/ and data/tensors/manifest.json; writes
reports/report.md, reports/details.md and reports/cards/NAME.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from stages.lib import params
from stages.lib.comparison import measured, results
from stages.lib.core import console
from stages.lib.models import records
from stages.lib.report import page
from stages.lib.report.page import Results
from stages.lib.tensors import manifest as manifests

REPORTS = Path("reports")


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    settings = params.load()
    compared = results.read()
    found = Results(
        settings=settings,
        manifest=manifests.load(manifests.FOLDER),
        compared=compared,
        costs={name: measured.read(name, compared.models[name].kind) for name in settings.model_names()},
        headline=json.loads((REPORTS / "metrics.json").read_text()),
        timing=records.read_timing(f"train-{settings.unimodal[0]}"),
    )
    (REPORTS / "cards").mkdir(exist_ok=True)
    for name, text in page.render(found).items():
        (REPORTS / name).write_text(text)


if __name__ == "__main__":
    console.run(main)
