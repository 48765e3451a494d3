"""MLflow: runs in the database tracking/mlflow/mlflow.db, or on the server that track.mlflow_uri names."""

from __future__ import annotations

import logging
import os
import time
import uuid
from contextlib import suppress

from stages.lib.params import Track
from stages.lib.tracking.base import RunLog, Tracker, Values, local_folder
from stages.lib.tracking.runs import Run

# Read when MLflow is imported. By default it tries for minutes to reach a server.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # no lines about the tables of a new database

_RUN_ID = "run_id"  # the tag by which a run is found again: MLflow chooses its own ids
_MOST_CHARACTERS = 6000  # of a parameter; longer ones are refused


class Mlflow(Tracker):
    """An experiment of MLflow."""

    def __init__(self, settings: Track) -> None:
        self._client = MlflowClient(settings.mlflow_uri or _database())
        experiment = self._client.get_experiment_by_name(settings.project)
        # Where files would be stored; by default a database creates a folder mlruns for them.
        artifacts = None if settings.mlflow_uri else local_folder("mlflow").as_uri()
        self._experiment = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(settings.project, artifacts)
        )

    def start_run(self, run: Run) -> RunLog:
        return _RunLog(self._client, self._experiment, run)


def _database() -> str:
    """The address of the database in tracking/mlflow.

    A new one is made under another name: MLflow cannot open one whose making was cut short, by a kill or by another
    process that makes the same file.
    """
    path = local_folder("mlflow") / "mlflow.db"
    if not path.exists():
        new = path.with_name(f"{uuid.uuid4().hex}.tmp")
        try:
            MlflowClient(f"sqlite:///{new}").search_experiments()
            with suppress(FileExistsError):
                path.hardlink_to(new)
        finally:
            new.unlink(missing_ok=True)
    return f"sqlite:///{path}"


class _RunLog(RunLog):
    def __init__(self, client: MlflowClient, experiment: str, run: Run) -> None:
        self._client = client
        self.last_epoch = 0
        found = client.search_runs([experiment], f"tags.{_RUN_ID} = '{run.id}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            steps = [metric.step for metric in client.get_metric_history(self._id, "epoch")]
            self.last_epoch = max(steps, default=0)
            return
        self._id = client.create_run(experiment, run_name=run.name).info.run_id
        tags = {_RUN_ID: run.id, "model": run.model, "seed": str(run.seed)}
        client.log_batch(
            self._id,
            params=[Param(key, str(value)[:_MOST_CHARACTERS]) for key, value in run.config.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )

    def log_epoch(self, values: Values) -> None:
        self.last_epoch = int(values["epoch"])
        self._log(values)

    def log_summary(self, metrics: Values) -> None:
        """At the last epoch."""
        self._log(metrics)

    def finish(self) -> None:
        self._client.set_terminated(self._id)

    def _log(self, values: Values) -> None:
        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, value, now_ms, self.last_epoch) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)
