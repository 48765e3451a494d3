"""Whole runs with preset settings, beside the committed run: in a temporary clone that shares the cache.

    python -m scripts.preset_runs notebook data/cilp_assessment [KEY=VALUE ...]
    python -m scripts.preset_runs zoo data/synthetic [KEY=VALUE ...]

Copies the results to reports/notebook/ or reports/zoo/; params.yaml, dvc.lock and other reports do not change.
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

# The notebook's own settings, without its errors: this project pairs samples by name, selects the best epoch by the
# loss per sample, sets seeds before it builds models, and resets the peak memory for each run.
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
    "train.min_steps=0",
    "train.batch_size=32",
    "train.learning_rate=1e-4",
    "train.schedule=constant",
    "train.weight_decay=0",
    "train.clip_norm=null",
    "train.patience=null",
    "train.subsample=1",
    "train.class_weights=none",
    "train.label_smoothing=0",
    "train.augment.flip=none",
    "train.augment.shift=0",
    "train.augment.sensor_dropout=0",
    "train.late.epochs=2",
    "train.late.min_steps=0",
    "train.late.learning_rate=1e-4",
    # The notebook does not disturb sensors.
    "evaluate.permutations=0",
    "evaluate.severities=[]",
    # One seed means one worker, which can use all cores.
    f"train.threads={len(os.sched_getaffinity(0))}",
]
# For all fusions, with as many seeds as their family of contrasts needs, in the faster precision.
ZOO = [
    "seeds=[51,52,53,54,55,56,57,58,59,60]",
    "evaluate.severities=[]",
]
PRESETS = ("notebook", "zoo")
RESULTS = ["report.md", "details.md", "comparison.csv", "statistics.json", "metrics.json", "figures"]


def main(arguments: Sequence[str]) -> None:
    name, dataset, overrides = parse_arguments(arguments)
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        clone = Path(folder) / "clone"
        make_clone(Path.cwd(), clone)
        path = link_dataset(dataset, clone)
        settings = [*preset(name), f"dataset.path={path}", *overrides]
        hide_settings(clone)
        apply(settings, clone)
        run(["dvc", "repro", "headline", "report"], clone)
        copy_results(clone / "reports", Path("reports") / name, name, settings)
    print(f"wrote reports/{name}/report.md")


def parse_arguments(given: Sequence[str]) -> tuple[str, Path, list[str]]:
    if len(given) < 2 or given[0] not in PRESETS or not given[1]:
        raise UserError("usage: make notebook DATASET=folder, or make zoo")
    name, dataset, *overrides = given
    if not Path(dataset).is_dir() and Path(dataset) != synthetic.FOLDER:
        raise UserError(f"DATASET: no folder '{dataset}'")
    return name, Path(dataset), overrides


def preset(name: str) -> list[str]:
    """The settings of a preset."""
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
    """bfloat16 where networks train faster in it: on GPUs and on some processors; else float32."""
    import torch  # takes seconds, which the notebook's preset does not need

    from stages.lib.models import devices

    return "bfloat16" if torch.cuda.is_available() or devices.bfloat16_ratio() < 1 else "float32"


def make_clone(project: Path, clone: Path) -> None:
    """Clones the project, uncommitted changes included, on the same DVC cache."""
    run(["git", "clone", "--quiet", str(project), str(clone)], project)
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=project, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (project / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project / name, clone / name)
        else:  # deleted here, but not yet in Git
            (clone / name).unlink(missing_ok=True)
    with Repo(project) as repo:
        cache = repo.cache.local_cache_dir
    (clone / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n")
    # Its lock file belongs to other settings, and DVC would parse and rewrite all of it after every stage.
    (clone / "dvc.lock").unlink(missing_ok=True)


def link_dataset(dataset: Path, clone: Path) -> str:
    """Links the dataset into the clone, under a path that does not contain the folder's own location."""
    if dataset.resolve() == synthetic.FOLDER.resolve():
        return synthetic.FOLDER.as_posix()  # the clone's own stage makes it
    # Overrides have their own grammar; plain names need no quoting.
    link = clone / "data" / re.sub(r"[^A-Za-z0-9._-]+", "-", dataset.resolve().name)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(dataset.resolve(), target_is_directory=True)
    return link.relative_to(clone).as_posix()


def hide_settings(clone: Path) -> None:
    """Makes Git ignore later changes of the clone's params.yaml.

    The report lists all of them, so the code still counts as that of its revision. The user's own uncommitted changes
    of that file stay visible.
    """
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "params.yaml"], cwd=clone).returncode == 0:
        run(["git", "update-index", "--skip-worktree", "params.yaml"], clone)


def apply(settings: list[str], clone: Path) -> None:
    """Writes settings into the clone's params.yaml.

    `dvc exp run --set-param` would also prepare an experiment, which takes seconds and is lost with the clone.

    Raises:
        UserError: when a setting is malformed or its key does not exist.
    """
    try:
        apply_overrides(clone / "params.yaml", settings)
    except InvalidArgumentError as error:
        raise UserError(f"SET: {str(error.__cause__).splitlines()[0]}") from None


def copy_results(source: Path, target: Path, name: str, settings: list[str]) -> None:
    """Copies the report, its figures and its numbers; adds the command and the settings to the report."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for result in RESULTS:
        copy = shutil.copytree if (source / result).is_dir() else shutil.copy2
        copy(source / result, target / result)
    page = target / "report.md"
    text = page.read_text().replace("\n`make repro` in a clone", f"\n`make {name}` in a clone")
    text += (
        f"\nThe settings are not those of params.yaml but those of `make {name}`: {', '.join(settings)}.\n"
    )
    page.write_text(text)


def run(command: list[str], folder: Path) -> None:
    """Runs a command that reports its errors itself."""
    if subprocess.run(command, cwd=folder).returncode:
        raise UserError(f"`{' '.join(command[:3])}` failed; its own message is above")


if __name__ == "__main__":
    console.run(main)
