"""What every tracker offers.

Any method may raise any error, and may take as long as a network takes.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path

from stages.lib.params import Track
from stages.lib.tracking.runs import Run

Values = Mapping[str, int | float]


class RunLog(ABC):
    """The log of one run: of one seed of one model."""

    last_epoch: int  # the last one that the run has from before it was opened here; 0 for a new run

    @abstractmethod
    def log_epoch(self, values: Values) -> None:
        """Adds an epoch; among its values is its number, `epoch`."""

    @abstractmethod
    def log_summary(self, metrics: Values) -> None:
        """Sets the metrics of the finished model."""

    @abstractmethod
    def finish(self) -> None:
        """Ends the run and waits until everything is written or sent."""


class Tracker(ABC):
    """A tracker, which takes the settings of params.yaml."""

    @abstractmethod
    def __init__(self, settings: Track) -> None:
        """Opens it, without a run."""

    @abstractmethod
    def start_run(self, run: Run) -> RunLog:
        """Opens a new run, or the run with the same id from before."""


def send(log: RunLog, epochs: Iterable[Values], summary: Values) -> None:
    """Adds epochs that the run does not have yet, and sets its summary."""
    for values in epochs:
        if values["epoch"] > log.last_epoch:
            log.log_epoch(values)
    if summary:
        log.log_summary(summary)


def local_folder(tracker: str) -> Path:
    """The folder of a tracker that writes files, in the project's own folder.

    DVC runs a queued experiment in a copy that it deletes later; DVC_ROOT names the project itself.
    """
    folder = Path(os.environ.get("DVC_ROOT", ".")).resolve() / "tracking" / tracker
    folder.mkdir(parents=True, exist_ok=True)
    return folder
