"""TensorBoard: event files in tracking/tensorboard/MODEL/, in a folder for each run.

tensorboard --logdir tracking/tensorboard
"""

from __future__ import annotations

import time
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from stages.lib.params import Track
from stages.lib.tracking.base import RunLog, Tracker, Values, local_folder
from stages.lib.tracking.runs import Run


class Tensorboard(Tracker):
    """TensorBoard's event files."""

    def __init__(self, settings: Track) -> None:
        self._folder = local_folder("tensorboard")

    def start_run(self, run: Run) -> RunLog:
        return _EventFiles(run, self._folder / run.model / run.id)


class _EventFiles(RunLog):
    def __init__(self, run: Run, folder: Path) -> None:
        self._scalars = read_scalars(folder)
        self.last_epoch = max((step for tag, step in self._scalars if tag == "epoch"), default=0)
        self._writer = EventFileWriter(str(folder))
        if not self._scalars:
            config = {key: "null" if value is None else value for key, value in run.config.items()}
            self._write(0, hparams_pb(config, trial_id=run.id))

    def log_epoch(self, values: Values) -> None:
        self.last_epoch = int(values["epoch"])
        self._write_scalars(values)

    def log_summary(self, metrics: Values) -> None:
        """At the last epoch; a metric that is there already is not written again."""
        self._write_scalars(
            {name: value for name, value in metrics.items() if not self._has(name, value)},
        )

    def finish(self) -> None:
        self._writer.close()

    def _has(self, name: str, value: int | float) -> bool:
        return self._scalars.get((name, self.last_epoch)) == _scalar(name, value).simple_value

    def _write_scalars(self, values: Values) -> None:
        scalars = [_scalar(name, value) for name, value in values.items()]
        if scalars:
            self._write(self.last_epoch, Summary(value=scalars))

    def _write(self, step: int, summary: Summary) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()  # TensorBoard shows an epoch when it is in the file


def _scalar(name: str, value: int | float) -> Summary.Value:
    return Summary.Value(tag=name, simple_value=value)


def read_scalars(folder: Path) -> dict[tuple[str, int], float]:
    """The scalars in a folder's event files, by tag and step; empty if there are none."""
    return {
        (value.tag, event.step): value.simple_value
        for path in sorted(folder.glob("events.out.tfevents.*"))
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.HasField("simple_value")
    }
