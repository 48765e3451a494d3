"""`make zoo`: every fusion of the folder, compared; then variants of this run (variants.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.studies import parameters, results, runs, workspace
from scripts.studies.runs import Run
from scripts.studies.zoo import figure, page, variants
from scripts.studies.zoo.variants import MATCHED, PLACES
from stages.lib import fusions
from stages.lib.core import console
from stages.lib.plots import style
from stages.lib.report import format

MAIN = "main"
SEEDS = range(51, 57)
SETTINGS = [
    f"seeds=[{','.join(map(str, SEEDS))}]",
    "evaluate.severities=[]",
]


def conduct(dataset: Path, overrides: Sequence[str]) -> None:
    """Carries out the runs; writes reports/zoo/ after the main run, and again after each variant."""
    settings = parameters.combine(main_settings(), overrides)
    variants_of_main = variants.list_runs(settings)
    path = f"dataset.path={workspace.dataset_path(dataset)}"
    folders: dict[str, Path] = {}
    planned = [Run(MAIN, tuple(settings)), *variants_of_main]
    for name, folder in runs.run_all("zoo", dataset, planned):
        folders[name] = folder
        target = results.copy(folders[MAIN], "zoo", [*settings, path])
        add_variants(folders, target)
        if len(folders) < len(planned):
            console.report_line(
                f"zoo: {target}/report.md shows {format.plural(len(folders), 'run')} of {len(planned)}"
            )


def add_variants(folders: Mapping[str, Path], target: Path) -> None:
    """Adds what the variants found to the report, with a figure, and writes variants.json."""
    found = {name: variants.read(folder) for name, folder in folders.items()}
    main = found[MAIN]
    matched = variants.compare_matched(main, found[MATCHED]) if MATCHED in found else None
    others = {place: found[name] for place in PLACES if (name := variants.place_name(place)) in found}
    places = variants.compare_places(main, others) if others else None
    if matched is None and places is None:
        return
    report = target / "report.md"
    report.write_text(page.insert(report.read_text(), matched, places))
    numbers = page.numbers(matched, places)
    (target / "variants.json").write_text(f"{json.dumps(numbers, indent=2)}\n")
    style.save(figure.draw(matched, places), target / "figures" / "variants.png")


def main_settings(study: str = "zoo") -> list[str]:
    """All fusions, in the precision that was faster when the study began."""
    joint, late = fusions.names(*fusions.JOINT), fusions.names("late")
    return [
        *SETTINGS,
        f"intermediate=[{','.join(joint)}]",
        f"late=[{','.join(late)}]",
        f"train.precision={workspace.keep(study, 'precision', faster_precision)}",
    ]


def faster_precision() -> str:
    """bfloat16 where networks train faster in it: on GPUs and on some processors; else float32."""
    import torch  # takes seconds, which the notebook's settings do not need

    from stages.lib.models import devices

    return "bfloat16" if torch.cuda.is_available() or devices.bfloat16_ratio() < 1 else "float32"
