"""Whole runs beside the committed one: other settings, in a temporary clone that shares the cache.

    python -m scripts.preset_runs notebook data/cilp_assessment [KEY=VALUE ...]
    python -m scripts.preset_runs zoo data/synthetic [KEY=VALUE ...]

Copies the results to reports/notebook/ or reports/zoo/; params.yaml, dvc.lock and reports/ stay as they are.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dvc.exceptions import InvalidArgumentError
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

from stages.lib import fusions
from stages.lib.core import console
from stages.lib.core.errors import UserError
from stages.lib.datasets import synthetic

# The notebook's own settings; its mistakes are not among them (pairs by name, best epoch by
# per-sample loss, seeds before models, memory reset for each run).
NOTEBOOK = [
    "fusion=concatenation",
    "seeds=[51]",
    "intermediate=[concatenation,addition,hadamard]",
    "late=[late]",
    "dataset.lidar.orientation=as-is",
    "dataset.test_fraction=0",
    "export.normalize=false",
    "network.fuse_after=3",
    "network.downsample=maxpool",
    "network.match_parameters=false",
    "network.init=pytorch",
    "train.epochs=2",
    "train.batch_size=32",
    "train.learning_rate=1e-4",
    "train.schedule=constant",
    "train.weight_decay=0",
    "train.clip_norm=null",
    "train.patience=null",
    "train.class_weights=none",
    "train.augment.flip=none",
    "train.augment.shift=0",
    "train.augment.sensor_dropout=0",
    "train.late.epochs=2",
    "train.late.learning_rate=1e-4",
    # It disturbed no sensors.
    "evaluate.permutations=0",
    "evaluate.severities=[]",
    # One seed is one worker: it may have the machine.
    f"train.threads={len(os.sched_getaffinity(0))}",
]
# For every fusion of the folder, with the seeds that its family of claims takes, in the faster precision.
ZOO = [
    "seeds=[51,52,53,54,55,56,57,58,59,60]",
    # Early fusion and mmtm pass through the whole network for each shuffle.
    "evaluate.permutations=5",
    "evaluate.severities=[]",
]
RECIPES = ("notebook", "zoo")
RESULTS = ["report.md", "comparison.csv", "statistics.json", "metrics.json", "figures"]


def main(arguments: Sequence[str]) -> None:
    name, dataset, overrides = parsed(arguments)
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        clone = Path(folder) / "clone"
        make_clone(Path.cwd(), clone)
        path = link_dataset(dataset, clone)
        settings = [*recipe(name), f"dataset.path={path}", *overrides]
        hide_settings(clone)
        apply(settings, clone)
        run(["dvc", "repro", "headline", "report"], clone)
        copy_results(clone / "reports", Path("reports") / name, name, settings)
    print(f"wrote reports/{name}/report.md")


def parsed(given: Sequence[str]) -> tuple[str, Path, list[str]]:
    if len(given) < 2 or given[0] not in RECIPES or not given[1]:
        raise UserError("usage: make notebook DATASET=folder, or make zoo")
    name, dataset, *overrides = given
    if not Path(dataset).is_dir() and Path(dataset) != synthetic.FOLDER:
        raise UserError(f"DATASET: no folder '{dataset}'")
    return name, Path(dataset), overrides


def recipe(name: str) -> list[str]:
    """The settings of a recipe."""
    if name == "notebook":
        return NOTEBOOK
    joint, late = fusions.names(*fusions.JOINT), fusions.names("late")
    return [
        *ZOO,
        f"intermediate=[{','.join(joint)}]",
        f"late=[{','.join(late)}]",
        f"train.precision={faster_precision()}",
    ]


def faster_precision() -> str:
    """bfloat16 where networks train faster in it: on GPUs and some processors; others have it, and are slower."""
    import torch  # seconds, which the notebook's recipe has no need of

    from stages.lib.models import devices

    return "bfloat16" if torch.cuda.is_available() or devices.bfloat16_ratio() < 1 else "float32"


def make_clone(project: Path, clone: Path) -> None:
    """A clone of the project as it stands, uncommitted work included, on the same DVC cache."""
    run(["git", "clone", "--quiet", str(project), str(clone)], project)
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=project, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (project / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project / name, clone / name)
        else:  # deleted, and not yet from Git
            (clone / name).unlink(missing_ok=True)
    with Repo(project) as repo:
        cache = repo.cache.local_cache_dir
    (clone / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n")
    # Its lock file is of other settings, and DVC would parse and rewrite all of it after every stage.
    (clone / "dvc.lock").unlink(missing_ok=True)


def link_dataset(dataset: Path, clone: Path) -> str:
    """Makes the dataset known inside the clone, under a path that does not tell where the folder lies."""
    if dataset.resolve() == synthetic.FOLDER.resolve():
        return synthetic.FOLDER.as_posix()  # the clone's own stage provides it
    # Overrides have a grammar of their own; plain names need no quoting.
    link = clone / "data" / re.sub(r"[^A-Za-z0-9._-]+", "-", dataset.resolve().name)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(dataset.resolve(), target_is_directory=True)
    return link.relative_to(clone).as_posix()


def hide_settings(clone: Path) -> None:
    """Git takes no notice of what is written to the clone's params.yaml from now on.

    The page tells all of it, so it is no change that would make the code another than its revision's. One's own
    uncommitted changes of that file stay visible.
    """
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "params.yaml"], cwd=clone).returncode == 0:
        run(["git", "update-index", "--skip-worktree", "params.yaml"], clone)


def apply(settings: list[str], clone: Path) -> None:
    """Writes settings into the clone's params.yaml, as `dvc exp run --set-param` does but for its seconds of
    preparing an experiment that nobody could go back to.

    Raises:
        UserError: when a setting is malformed or names no key.
    """
    try:
        apply_overrides(clone / "params.yaml", settings)
    except InvalidArgumentError as error:
        raise UserError(f"SET: {str(error.__cause__).splitlines()[0]}") from None


def copy_results(source: Path, target: Path, name: str, settings: list[str]) -> None:
    """The page, its figures and its numbers; the page tells the command and the settings."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for result in RESULTS:
        copy = shutil.copytree if (source / result).is_dir() else shutil.copy2
        copy(source / result, target / result)
    page = target / "report.md"
    told = page.read_text().replace("\n`make repro` in a clone", f"\n`make {name}` in a clone")
    told += (
        f"\nThe settings are not those of params.yaml but those of `make {name}`: {', '.join(settings)}.\n"
    )
    page.write_text(told)


def run(command: list[str], folder: Path) -> None:
    """Runs a command that says itself what is wrong."""
    if subprocess.run(command, cwd=folder).returncode:
        raise UserError(f"`{' '.join(command[:3])}` failed; its own message stands above")


if __name__ == "__main__":
    console.run(main)
