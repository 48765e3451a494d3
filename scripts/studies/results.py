"""Results of a study: copied from a run's folder to reports/STUDY/."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from scripts.studies import parameters

FILES = ["report.md", "details.md", "comparison.csv", "statistics.json", "metrics.json", "figures"]


def copy(folder: Path, study: str, settings: Sequence[str]) -> Path:
    """Copies a run's report, figures and numbers; adds the command and the settings to the report.

    Args:
        folder: of the run.
        study: name of the study and of its `make` command.
        settings: of the run, for the last line of the report.

    Returns:
        The folder of the study's results.
    """
    source, target = folder / "reports", Path("reports") / study
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in FILES:
        copy_one = shutil.copytree if (source / name).is_dir() else shutil.copy2
        copy_one(source / name, target / name)
    page = target / "report.md"
    text = page.read_text().replace("\n`make repro` in a clone", f"\n`make {study}` in a clone")
    page.write_text(f"{text}\n{parameters.closing_line(f'make {study}', settings)}\n")
    return target
