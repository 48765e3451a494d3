"""Shows each epoch while training goes on: as a line of reports/history/NAME.csv, and in a tracker.

DVC's extension for VS Code draws the file's curves. Only the process of the stage calls this, never a worker.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stages.lib.core import console
from stages.lib.models import records
from stages.lib.params import Track
from stages.lib.training import outputs
from stages.lib.training.progress import OnEpochs
from stages.lib.training.state import Epoch

if TYPE_CHECKING:
    from stages.lib.tracking.live import LiveTracker
    from stages.lib.tracking.runs import Run


@contextmanager
def opened(name: str, metadata: Mapping[str, Any], settings: Track) -> Iterator[OnEpochs]:
    """A function that shows new epochs of a seed; a failure to show them is one warning.

    Args:
        metadata: settings and data that the model is trained with.
    """
    with _tracker(settings) as tracker:
        yield _LiveEpochs(name, metadata, tracker).show


class _LiveEpochs:
    def __init__(self, name: str, metadata: Mapping[str, Any], tracker: LiveTracker) -> None:
        self._name = name
        self._metadata = metadata
        self._tracker = tracker
        self._runs: dict[int, Run] = {}
        self._has_history = self._try_history([], is_new=True)

    def show(self, seed: int, epochs: list[Epoch]) -> None:
        if self._has_history:
            self._has_history = self._try_history(outputs.history_rows(seed, epochs))
        if seed not in self._runs:
            runs = importlib.import_module("stages.lib.tracking.runs")
            first = (epochs[0].train_loss, epochs[0].valid_loss)
            self._runs[seed] = runs.describe(self._name, seed, self._metadata, first)
        self._tracker.log(self._runs[seed], [asdict(epoch) for epoch in epochs])

    def _try_history(self, rows: list[dict[str, int | float]], *, is_new: bool = False) -> bool:
        try:
            (records.write_history if is_new else records.append_history)(self._name, rows)
        except OSError as error:
            console.report_line(f"warning: {self._name}: no live history: {error.strerror}")
            return False
        return True


def _tracker(settings: Track) -> LiveTracker:
    # By name, since training depends on every module that it imports, and a tracker must not make it run again. The
    # fingerprint of `resume` has been taken before, so it does not contain these modules either.
    return importlib.import_module("stages.lib.tracking.live").LiveTracker(settings)
