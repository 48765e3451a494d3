"""`make zoo`: every fusion of the folder, compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.studies import results, runs, workspace
from scripts.studies.runs import Run
from stages.lib import fusions

SEEDS = range(51, 57)
SETTINGS = [
    f"seeds=[{','.join(map(str, SEEDS))}]",
    "evaluate.severities=[]",
]


def conduct(dataset: Path, overrides: Sequence[str]) -> None:
    """Carries out the runs and writes reports/zoo/."""
    settings = main_settings()
    folders = runs.run_all("zoo", dataset, [Run("main", (*settings, *overrides))])
    path = f"dataset.path={workspace.dataset_path(dataset)}"
    results.copy(folders["main"], "zoo", [*settings, path, *overrides])


def main_settings() -> list[str]:
    """All fusions, in the faster precision."""
    joint, late = fusions.names(*fusions.JOINT), fusions.names("late")
    return [
        *SETTINGS,
        f"intermediate=[{','.join(joint)}]",
        f"late=[{','.join(late)}]",
        f"train.precision={faster_precision()}",
    ]


def faster_precision() -> str:
    """bfloat16 where networks train faster in it: on GPUs and on some processors; else float32."""
    import torch  # takes seconds, which the notebook's settings do not need

    from stages.lib.models import devices

    return "bfloat16" if torch.cuda.is_available() or devices.bfloat16_ratio() < 1 else "float32"
