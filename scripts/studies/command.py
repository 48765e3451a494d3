"""The command line of all studies.

    python -m scripts.studies [--minutes MINUTES] STUDY DATASET [KEY=VALUE ...]

One process at a time works on a study. An interrupted study goes on where it was with the same command; one that
ended well leaves nothing but its results in reports/STUDY/.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from scripts.command_line import Parser
from scripts.studies import pieces, workspace
from stages.lib.core import console
from stages.lib.core.errors import UserError
from stages.lib.datasets import synthetic

# A study is a module with a function conduct(dataset, overrides), which writes reports/STUDY/.
STUDIES = {
    "notebook": "scripts.studies.notebook",
    "zoo": "scripts.studies.zoo.study",
    "learning-curve": "scripts.studies.learning_curve.study",
    "tune": "scripts.studies.tune.study",
}
LOCKS = Path(".dvc/tmp")  # outside of the workspaces, which a study removes when it ends
_PATIENCE_S = 3.0  # for a process that is ending


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m scripts.studies", description=__doc__)
    parser.add_argument("--minutes", type=float, help="stop after this time; the same command goes on later")
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("dataset")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    if not given.dataset:
        raise UserError(f"usage: make {given.study} DATASET=folder")
    if not Path(given.dataset).is_dir() and Path(given.dataset) != synthetic.FOLDER:
        raise UserError(f"DATASET: no folder '{given.dataset}'")
    if given.minutes is not None and given.minutes <= 0:
        raise UserError(f"MINUTES: {given.minutes:g} is not above zero")
    LOCKS.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCKS / f"study-{given.study}.lock")  # the system frees it when this process ends
    try:
        held = lock.acquire(timeout=_PATIENCE_S)
    except Timeout:
        raise UserError(
            f"{given.study}: another process works on this study; wait for its end, or stop it"
        ) from None
    with held, pieces.limit(given.minutes):
        try:
            importlib.import_module(STUDIES[given.study]).conduct(Path(given.dataset), given.overrides)
        except pieces.TimeIsUp as end:
            console.report_line(
                f"{given.study}: {given.minutes:g} minutes are over, {end}; the same command goes on from here"
            )
            return
        workspace.remove(given.study)
    print(f"wrote reports/{given.study}/report.md")
