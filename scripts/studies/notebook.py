"""`make notebook`: the course notebook's own recipe on a user's dataset, in one run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from scripts.studies import parameters, results, runs, workspace
from scripts.studies.runs import Run

# The notebook's own settings, without its errors: this project pairs samples by name, selects the best epoch by the
# loss per sample, sets seeds before it builds models, and resets the peak memory for each run.
SETTINGS = [
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


def conduct(dataset: Path, overrides: Sequence[str]) -> None:
    """Carries out the run and writes reports/notebook/."""
    settings = parameters.combine(SETTINGS, overrides)
    folders = dict(runs.run_all("notebook", dataset, [Run("notebook", tuple(settings))]))
    path = f"dataset.path={workspace.dataset_path(dataset)}"
    results.copy(folders["notebook"], "notebook", [*settings, path])
