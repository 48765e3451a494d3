"""`make learning-curve`: every model with a quarter, half and all of the training scenes.

Writes reports/learning-curve/: report.md, learning_curve.png and learning_curve.json. A seed's draws are nested, and
the same for all models.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from scripts.studies import parameters, workspace
from scripts.studies.learning_curve import figure, page, results
from scripts.studies.learning_curve.results import Curve
from scripts.studies.runs import Run, run_all
from stages.lib.core.errors import UserError
from stages.lib.plots import style

NAME = "learning-curve"
FOLDER = Path("reports") / NAME
SHARES = (0.25, 0.5, 1.0)  # of the training scenes
# The course notebook's fusions, each sensor alone, and as many seeds as the default run.
SETTINGS = [
    "fusion=concatenation",
    "seeds=[51,52,53,54]",
    "intermediate=[concatenation,addition,hadamard]",
    "late=[late]",
]
# The page shows no corruptions. The run with all scenes keeps them: it is the default run, whose results are at hand.
PART = ["evaluate.severities=[]"]


def conduct(dataset: Path, given: Sequence[str]) -> None:
    """Carries out the runs and writes the page.

    Raises:
        UserError: when a setting is not valid, a stage fails, or the runs do not fit together.
    """
    runs = planned(given)
    folders = dict(run_all(NAME, dataset, list(runs.values())))
    curve = results.read({share: folders[run.name] for share, run in runs.items()})
    settings = [*parameters.combine(SETTINGS, given), f"dataset.path={workspace.dataset_path(dataset)}"]
    write(curve, list({setting.split("=")[0]: setting for setting in settings}.values()))  # later ones win


def planned(given: Sequence[str]) -> dict[float, Run]:
    """The runs by the share of the training scenes.

    Args:
        given: the user's overrides, which win over the study's own.

    Raises:
        UserError: when they contain what the study itself varies.
    """
    for setting in given:
        if setting.lstrip("+~").split("=")[0].strip() == "train.subsample":
            raise UserError(f"SET: train.subsample is what {NAME} varies: {', '.join(map(str, SHARES))}")
    settings = parameters.combine(SETTINGS, given)
    return {
        share: Run(
            f"{share:.0%}".replace("%", "-percent"),
            (*(PART if share < 1 else []), *settings, f"train.subsample={share}"),
        )
        for share in SHARES
    }


def write(curve: Curve, settings: list[str]) -> None:
    """Writes page, figure and numbers in place of those of an earlier study.

    Args:
        settings: overrides of params.yaml.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    compared = curve.sizes[-1].compared
    drawn = figure.accuracy_over_groups(
        {name: [size.accuracies[name] for size in curve.sizes] for name in curve.sizes[-1].accuracies},
        [size.mean_groups for size in curve.sizes],
        [size.share for size in curve.sizes],
        f"balanced accuracy ({compared.split})",
        compared.confidence,
    )
    style.save(drawn, FOLDER / page.FIGURE)
    (FOLDER / "learning_curve.json").write_text(json.dumps(results.as_json(curve), indent=2) + "\n")
    (FOLDER / "report.md").write_text(page.render(curve, settings))
