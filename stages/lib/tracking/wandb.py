"""W&B. Its own environment variables choose the server, the key and the mode, such as WANDB_MODE=offline.

Offline, it writes to tracking/wandb/, and `wandb sync` sends that later.
"""

from __future__ import annotations

import wandb

from stages.lib.params import Track
from stages.lib.tracking.base import RunLog, Tracker, Values, local_folder
from stages.lib.tracking.runs import Run

# `silent`: no lines between those of training, and no question for a key, which nobody would answer.
_SETTINGS = wandb.Settings(
    silent=True,
    console="off",
    disable_git=True,
    x_disable_stats=True,
    init_timeout=10,
    finish_timeout=20,
)


class Wandb(Tracker):
    """A project of W&B."""

    def __init__(self, settings: Track) -> None:
        self._project = settings.project
        wandb.setup(_SETTINGS)

    def start_run(self, run: Run) -> RunLog:
        return _RunLog(run, self._project)


class _RunLog(RunLog):
    def __init__(self, run: Run, project: str) -> None:
        self._run = wandb.init(
            project=project,
            id=run.id,
            name=run.name,
            group=run.model,
            tags=run.tags,
            config=run.config,
            dir=local_folder("wandb").parent,  # W&B itself adds the folder wandb
            resume="allow",
            reinit="create_new",  # several runs at once
            settings=_SETTINGS,
        )
        self.last_epoch = self._run.step - 1 if self._run.resumed else 0

    def log_epoch(self, values: Values) -> None:
        self.last_epoch = int(values["epoch"])
        self._run.log(dict(values), step=self.last_epoch)

    def log_summary(self, metrics: Values) -> None:
        self._run.summary.update(metrics)

    def finish(self) -> None:
        self._run.finish()
